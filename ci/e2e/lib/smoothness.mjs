// How a call looks and sounds to its receiver from the moment of connecting: size and rate of the
// pictures, freezes, gaps of sound.

/** Runs in the page, after the probe: notes everything ten times a second. */
export function installWatch() {
  const watch = { samples: [], sent: [], shown: [], connectedAt: null };
  window.__watch = watch;
  const remote = () => new Set((window.__probe?.connections ?? []).flatMap(one => one.getReceivers().map(({ track }) => track)));
  const followed = new WeakSet();
  const follow = video => {
    const tick = now => {
      watch.shown.push(now);
      video.requestVideoFrameCallback(tick);
    };
    video.requestVideoFrameCallback?.(tick);
  };
  let busy = false;
  setInterval(async () => {
    if (busy) return;
    busy = true;
    try {
      const connections = (window.__probe?.connections ?? []).filter(one => one.connectionState === 'connected');
      if (connections.length === 0) return;
      watch.connectedAt ??= performance.now();
      const tracks = remote();
      for (const video of document.querySelectorAll('video')) {
        if (followed.has(video) || !video.srcObject?.getVideoTracks().some(track => tracks.has(track))) continue;
        followed.add(video);
        follow(video);
      }
      for (const connection of connections) {
        const sample = { at: performance.now(), frames: 0, width: 0, height: 0, freezes: 0, frozen: 0, concealed: 0, samples: 0, packets: 0 };
        const sent = { at: sample.at, estimate: null, video: [] };
        for (const entry of (await connection.getStats()).values()) {
          if (entry.type === 'inbound-rtp' && entry.kind === 'video' && entry.framesDecoded > sample.frames) {
            sample.frames = entry.framesDecoded;
            [sample.width, sample.height] = [entry.frameWidth ?? 0, entry.frameHeight ?? 0];
            sample.freezes = entry.freezeCount ?? 0;
            sample.frozen = entry.totalFreezesDuration ?? 0;
          } else if (entry.type === 'inbound-rtp' && entry.kind === 'audio' && (entry.packetsReceived ?? 0) > sample.packets) {
            sample.packets = entry.packetsReceived;
            sample.concealed = entry.concealedSamples ?? 0;
            sample.samples = entry.totalSamplesReceived ?? 0;
          } else if (entry.type === 'candidate-pair' && entry.availableOutgoingBitrate) {
            sent.estimate = Math.round(entry.availableOutgoingBitrate / 1000);
          } else if (entry.type === 'outbound-rtp' && entry.kind === 'video' && entry.framesEncoded > 0) {
            sent.video.push({
              size: `${entry.frameWidth}x${entry.frameHeight}`, frames: entry.framesEncoded, bytes: entry.bytesSent, keys: entry.keyFramesEncoded, target: entry.targetBitrate && Math.round(entry.targetBitrate / 1000),
              reason: entry.qualityLimitationReason, encode: entry.totalEncodeTime, qp: entry.qpSum, fps: entry.framesPerSecond,
            });
          } else if (entry.type === 'media-source' && entry.kind === 'video') {
            sent.source ??= entry.framesPerSecond;
          } else if (entry.type === 'remote-inbound-rtp' && entry.kind === 'video') {
            sent.loss = entry.fractionLost;
            sent.rtt = entry.roundTripTime;
          }
        }
        watch.samples.push(sample);
        watch.sent.push(sent);
      }
    } catch {
      // The connection was closed meanwhile.
    } finally {
      busy = false;
    }
  }, 100);
}

/** What `installWatch` has noted so far. */
export const watched = ({ page }) => page.evaluate(() => window.__watch);

/**
 * Rate below which a second does not count as the camera's full one: 20 a second, less what falls
 * between two looks.
 */
export const FULL_RATE = 18;

/** The figures of what one receiver has noted. `height`: of the full size. */
export function figures({ samples, shown, connectedAt }, { height = 720 } = {}) {
  const first = samples.find(one => one.frames > 0);
  const last = samples.at(-1);
  if (!first || !last) return null;
  // Full size and rate from the start of the first whole second in which every sample has it.
  let fullAt = null;
  for (const [index, one] of samples.entries()) {
    if (one.height < height) continue;
    const end = samples.findIndex((later, at) => at > index && later.at >= one.at + 1000);
    if (end < 0) break;
    const second = samples.slice(index, end + 1);
    const rate = ((samples[end].frames - one.frames) * 1000) / (samples[end].at - one.at);
    if (second.every(each => each.height >= height) && rate >= FULL_RATE) {
      fullAt = Math.round(one.at - connectedAt);
      break;
    }
  }
  const gaps = times => times.slice(1).reduce((most, at, index) => Math.max(most, at - times[index]), 0);
  const moves = field => samples.filter((one, index) => index === 0 || one[field] > samples[index - 1][field]).map(one => one.at);
  // Firefox begins to count anew when a stream changes.
  const grown = field => samples.slice(1).reduce((sum, one, index) => sum + Math.max(0, one[field] - samples[index][field]), 0);
  const sizes = [];
  for (const one of samples) {
    const size = `${one.width}×${one.height}`;
    if (one.frames > 0 && sizes.at(-1)?.size !== size) sizes.push({ size, at: Math.round((one.at - connectedAt) / 100) / 10 });
  }
  const heard = samples.filter(one => one.samples > 0);
  const from = heard.find(one => one.at > heard[0].at + 1000) ?? heard[0];
  return {
    firstMs: Math.round(first.at - connectedAt),
    fullMs: fullAt,
    rate: (grown('frames') * 1000) / (last.at - first.at),
    longestMs: Math.round(gaps(shown.length > 0 ? [...shown, last.at] : moves('frames'))),
    freezes: last.freezes,
    frozenMs: Math.round(last.frozen * 1000),
    concealed: from ? (last.concealed - from.concealed) / Math.max(1, last.samples - from.samples) : null,
    soundGapMs: Math.round(gaps([...moves('packets'), last.at])),
    sizes,
  };
}
