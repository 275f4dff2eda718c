// What a test wants to know about a page and the page does not say: its peer connections, what they decoded, and every
// breach of the content policy. Installed before the page's own scripts; the product has no hook for tests.

/** Runs in the page, before anything else. */
export function installProbe() {
  const probe = { connections: [], violations: [], executed: 0, offers: 0 };
  const Native = window.RTCPeerConnection;
  if (Native) {
    window.RTCPeerConnection = class RTCPeerConnection extends Native {
      constructor(...rest) {
        super(...rest);
        probe.connections.push(this);
      }
    };
  }
  document.addEventListener('securitypolicyviolation', event =>
    probe.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`),
  );
  // What the hostile texts of the tests try to call.
  window.__breach = () => (probe.executed += 1);

  // When a visitor could first press Join.
  const look = () => {
    if (document.querySelector('#join')?.checkVisibility()) probe.joinVisibleAt = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);

  /** What had been asked for until then, the page itself first. */
  probe.requestsUntilJoin = () => [
    location.pathname,
    ...performance.getEntriesByType('resource').filter(one => one.startTime <= probe.joinVisibleAt && !one.name.startsWith('data:')).map(one => new URL(one.name).pathname),
  ];

  /** One entry per open connection: what has come in, by media section. */
  probe.inbound = async () => {
    const links = [];
    for (const connection of probe.connections) {
      if (connection.connectionState === 'closed') continue;
      const link = { state: connection.connectionState, media: {} };
      for (const entry of (await connection.getStats()).values()) {
        if (entry.type !== 'inbound-rtp') continue;
        link.media[entry.mid ?? entry.kind] = {
          kind: entry.kind,
          packets: entry.packetsReceived ?? 0,
          frames: entry.framesDecoded ?? 0,
          width: entry.frameWidth ?? 0,
          height: entry.frameHeight ?? 0,
          energy: entry.totalAudioEnergy ?? 0,
          samples: entry.totalSamplesReceived ?? 0,
        };
      }
      links.push(link);
    }
    return links;
  };

  /** Starts to note, several times a second, how far every connection's sound and picture have come. */
  probe.record = () => {
    const samples = [];
    const tick = async () => {
      const links = await probe.inbound();
      samples.push({
        at: performance.now(),
        links: links.map(link => {
          const all = Object.values(link.media);
          const sum = (kind, field) => all.filter(one => one.kind === kind).reduce((total, one) => total + one[field], 0);
          return { frames: sum('video', 'frames'), packets: sum('audio', 'packets') };
        }),
      });
    };
    const timer = setInterval(tick, 100);
    probe.stopRecording = () => {
      clearInterval(timer);
      return samples;
    };
  };
  window.__probe = probe;
}

/** The sampler ticks every 100 ms; when a tick is later than this, it was the machine that stood still, not the media. */
const LATE_TICK = 150;

/**
 * The longest time without progress in a recording, per kind, in milliseconds, over all connections.
 *
 * A gap runs from the last sample that showed the old figure to the first that showed a higher one, so it is never shorter than the real one. Of
 * an interval in which the page itself could not run, only as much counts as a tick may take.
 */
export function longestGaps(samples) {
  const gaps = { frames: 0, packets: 0 };
  const width = Math.max(0, ...samples.map(sample => sample.links.length));
  for (const field of ['frames', 'packets']) {
    for (let link = 0; link < width; link += 1) {
      let highest = null;
      let gap = 0;
      samples.forEach((sample, number) => {
        const value = sample.links[link]?.[field];
        if (value === undefined) return;
        if (highest !== null) {
          gap += Math.min(LATE_TICK, sample.at - samples[number - 1].at);
          gaps[field] = Math.max(gaps[field], gap);
        }
        if (highest === null || value > highest) {
          highest = value;
          gap = 0;
        }
      });
    }
  }
  return { frames: Math.round(gaps.frames), packets: Math.round(gaps.packets) };
}
