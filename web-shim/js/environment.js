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
    socketRefusal,
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

/**
 * Why a WebSocket to the relay fails although the relay is there: a browser does not say, so the relay is asked by an ordinary request that
 * carries `Origin` as a handshake does (PROTOCOL §8). Null when nothing answers, or when nothing is known.
 * @returns {Promise<string | null>} BAD_ORIGIN, RATE_LIMITED, or NO_WEBSOCKET when it was a proxy that refused
 */
async function socketRefusal() {
  const signal = () => AbortSignal.timeout(5000);
  try {
    const answer = await fetch('/ws', { method: 'POST', cache: 'no-store', signal: signal() });
    // A proxy answers so for a relay that is away; or it leads elsewhere with this one path.
    if (answer.status >= 500 && !(await fetch('/health', { cache: 'no-store', signal: signal() })).ok) return null;
    const code = (await answer.json().catch(() => null))?.code;
    return code === 'BAD_ORIGIN' || code === 'RATE_LIMITED' ? code : 'NO_WEBSOCKET';
  } catch {
    return null;
  }
}
