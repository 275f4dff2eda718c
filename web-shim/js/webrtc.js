// Whether this browser can make calls at all: WebRTC is switched off by some settings, extensions and hardened browsers.
// Never reaches a server: it looks only at what the browser offers by itself.

const PATIENCE_MS = 3000;

/** Whether a connection can be made. @param {new () => RTCPeerConnection} [PeerConnection] */
export function canConnect(PeerConnection) {
  if (typeof PeerConnection !== 'function') return false;
  try {
    new PeerConnection().close();
    return true;
  } catch {
    return false;
  }
}

/**
 * What keeps this browser from a call: `off`, or `pathless` when it shows no network path of its own, so that only a relay
 * that it lets through could help.
 * @param {new () => RTCPeerConnection} [PeerConnection] @returns {Promise<'off' | 'pathless' | null>}
 */
export async function callProblem(PeerConnection = globalThis.RTCPeerConnection) {
  if (!canConnect(PeerConnection)) return 'off';
  const pc = new PeerConnection();
  try {
    pc.createDataChannel('look');
    /** @type {Promise<'pathless' | null>} */
    const gathered = new Promise((resolve) => {
      pc.onicecandidate = ({ candidate }) => {
        if (candidate?.candidate) resolve(null);
        else if (!candidate) resolve('pathless');
      };
      setTimeout(resolve, PATIENCE_MS, null);
    });
    await pc.setLocalDescription(await pc.createOffer());
    return await gathered;
  } catch {
    return 'off';
  } finally {
    pc.close();
  }
}
