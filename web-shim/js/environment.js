// What the engine takes from the browser, in one place, so that tests can bring their own.
// The only engine module that knows of the window; it never touches the page's elements.

/** @import { Environment } from './types.d.ts' */

/** @returns {Environment} */
export function browserEnvironment() {
  const { WebSocket, RTCPeerConnection, MediaStream } = globalThis;
  return {
    origin: globalThis.location?.origin ?? '',
    WebSocket,
    RTCPeerConnection,
    MediaStream,
    now: () => performance.now(),
    random: () => Math.random(),
    isHidden: () => globalThis.document?.hidden ?? false,
    onNetworkHint,
  };
}

/** @param {(hint: 'moved' | 'woken') => void} listener */
function onNetworkHint(listener) {
  const stop = new AbortController();
  const { signal } = stop;
  globalThis.addEventListener?.('online', () => listener('moved'), { signal });
  globalThis.addEventListener?.('pageshow', () => listener('woken'), { signal });
  const { document } = globalThis;
  document?.addEventListener('visibilitychange', () => document.hidden || listener('woken'), { signal });
  /** @type {(EventTarget & { type?: string }) | undefined} */
  const connection = /** @type {any} */ (globalThis.navigator)?.connection;
  // `change` also tells every new estimate of the speed; only another kind of network is another address.
  let type = connection?.type;
  connection?.addEventListener('change', () => {
    if (connection.type !== type) listener('moved');
    type = connection.type;
  }, { signal });
  return () => stop.abort();
}
