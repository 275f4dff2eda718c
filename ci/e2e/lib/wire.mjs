// A narrow path between browsers of one machine, where the kernel offers none: a UDP forwarder with
// a rate, a queue and a delay.
//
// Every candidate that a page is told is replaced by a port of ours, so that all media passes here,
// in both directions. What arrives at the port that stands for X from Y leaves for X from the port
// that stands for Y. It runs in a thread of its own, before all others where that is allowed:
// packets that leave in bunches make a browser take the path for a wider one.

import { createSocket } from 'node:dgram';
import { setPriority } from 'node:os';
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads';

/** IPv4 and UDP headers of a datagram, in bytes. */
const HEADERS = 28;
const PRIORITY = -15;

export class Wire {
  #worker;
  #asked = new Map();
  /** Datagrams that went through, and that found the queue full. */
  carried = 0;
  dropped = 0;

  /** `kbps`: the rate of each direction; `queueMs`: what its buffer holds; `delayMs`: one way. */
  constructor(cleanup, { kbps, delayMs = 20, queueMs = 300 }) {
    this.#worker = new Worker(new URL(import.meta.url), { workerData: { wire: { kbps, delayMs, queueMs } } });
    this.#worker.on('message', ({ key, port, carried, dropped }) => {
      if (key) this.#asked.get(key)?.(port);
      else Object.assign(this, { carried, dropped });
    });
    cleanup.add(() => this.#worker.terminate());
  }

  /** Leads all connections of a page through here. Before the page is opened. */
  async lead({ page }) {
    await page.exposeFunction('__wire', candidate => this.#replace(candidate));
    await page.evaluateOnNewDocument(installWire);
  }

  /**
   * The candidate with our port in place of its own; null for all but host candidates of IPv4 and
   * UDP.
   */
  async #replace(candidate) {
    const parts = candidate.split(' ');
    const [, , protocol, , address, port] = parts;
    if (protocol?.toLowerCase() !== 'udp' || parts[7] !== 'host' || !/^\d+\.\d+\.\d+\.\d+$/.test(address)) return null;
    const key = `${address}:${port}`;
    parts[5] = await new Promise(done => {
      this.#asked.set(key, done);
      this.#worker.postMessage({ address, port: Number(port) });
    });
    return parts.join(' ');
  }
}

/** The worker's part. */
function forward(path) {
  /** What stands for each real endpoint, by `address:port`. */
  const ends = new Map();
  const count = { carried: 0, dropped: 0 };
  const end = (address, port) => {
    const key = `${address}:${port}`;
    if (!ends.has(key)) {
      const socket = createSocket('udp4');
      ends.set(key, new Promise(done => socket.bind(0, address, () => done({ socket, line: new Line(path) }))));
      socket.on('message', async (data, from) => {
        const sender = await ends.get(`${from.address}:${from.port}`);
        // From where no page was told of, nothing is taken.
        if (!sender) return;
        const taken = sender.line.carry(data.length + HEADERS, () => sender.socket.send(data, port, address, () => {}));
        count[taken ? 'carried' : 'dropped'] += 1;
      });
    }
    return ends.get(key);
  };
  parentPort.on('message', async ({ address, port }) => {
    const { socket } = await end(address, port);
    parentPort.postMessage({ key: `${address}:${port}`, port: socket.address().port });
  });
  setInterval(() => parentPort.postMessage(count), 500);
  try {
    // Of this thread alone.
    setPriority(0, PRIORITY);
  } catch {
    // Only root may.
  }
}

/** One endpoint's way out. */
class Line {
  #waiting = [];
  #timer = null;
  #free = 0;

  constructor(path) {
    Object.assign(this, path);
  }

  /**
   * Sends when the bytes before it have gone and the delay has passed; false when the queue is
   * full.
   */
  carry(bytes, send) {
    const now = performance.now();
    const start = Math.max(now, this.#free);
    if (start - now > this.queueMs) return false;
    this.#free = start + (bytes * 8) / this.kbps;
    this.#waiting.push({ at: this.#free + this.delayMs, send });
    this.#arm();
    return true;
  }

  #arm() {
    if (this.#timer || this.#waiting.length === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      while (this.#waiting[0]?.at <= performance.now() + 0.5) this.#waiting.shift().send();
      this.#arm();
    }, Math.max(1, this.#waiting[0].at - performance.now()));
  }
}

/** Runs in the page, after the probe. */
function installWire() {
  const Before = window.RTCPeerConnection;
  const Description = window.RTCSessionDescription;
  window.RTCPeerConnection = class RTCPeerConnection extends Before {
    async addIceCandidate(candidate) {
      const replaced = candidate?.candidate ? await window.__wire(candidate.candidate) : null;
      if (replaced) await super.addIceCandidate({ candidate: replaced, sdpMid: candidate.sdpMid, sdpMLineIndex: candidate.sdpMLineIndex });
    }

    async setRemoteDescription({ type, sdp }) {
      const lines = sdp.split('\r\n');
      const own = lines.filter(line => line.startsWith('a=candidate:'));
      await super.setRemoteDescription(new Description({ type, sdp: lines.filter(line => !own.includes(line)).join('\r\n') }));
      for (const line of own) await this.addIceCandidate({ candidate: line.slice(2), sdpMid: null, sdpMLineIndex: 0 });
    }
  };
}

if (!isMainThread && workerData?.wire) forward(workerData.wire);
