// A relay that cannot be trusted: it stands between the pages and the real relay, serves the real page, and changes what it
// forwards in whatever way a test wants.
//
// It is careful where a real attacker would be: sequence numbers stay without holes, so that nothing but the content itself can
// give it away.

import http from 'node:http';
import WebSocket, { WebSocketServer } from 'ws';

/**
 * `change(message, context)` is called for every message towards a client and returns the messages to deliver instead (an array).
 * `overhear(message, context)` sees what clients say. `context` is one object per connection, free for notes.
 */
export async function startMeddler(cleanup, relay, { change = message => [message], overhear = () => {} } = {}) {
  const upstream = new URL(relay.origin);
  const server = http.createServer((request, response) => {
    const onward = http.request(
      { host: upstream.hostname, port: upstream.port, path: request.url, method: request.method, headers: { ...request.headers, host: upstream.host } },
      answer => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      },
    );
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  const meddler = { contexts: [], touched: 0 };
  const sockets = new WebSocketServer({ server, perMessageDeflate: false });
  sockets.on('connection', client => {
    const context = { meddler, added: 0, index: meddler.contexts.length };
    meddler.contexts.push(context);
    const backend = new WebSocket(relay.ws, { origin: relay.origin, perMessageDeflate: false });
    const early = [];
    const forward = text => (backend.readyState === WebSocket.OPEN ? backend.send(text) : early.push(text));
    backend.on('open', () => early.splice(0).forEach(text => backend.send(text)));
    client.on('message', data => {
      const message = JSON.parse(data);
      overhear(message, context);
      if (typeof message.lastSeq === 'number') message.lastSeq = Math.max(0, message.lastSeq - context.added);
      forward(JSON.stringify(message));
    });
    const deliver = message => client.readyState === WebSocket.OPEN && client.send(JSON.stringify(message));
    backend.on('message', data => {
      const message = JSON.parse(data);
      if (message.type === 'room_joined') context.userId = message.userId;
      const instead = change(message, context);
      instead.forEach((one, place) => {
        if (typeof message.seq === 'number') {
          if (place > 0) context.added += 1;
          context.seq = message.seq + context.added;
          deliver({ ...one, seq: context.seq });
        } else {
          deliver(one);
        }
      });
    });
    /** Slips in a message of the meddler's own. */
    context.inject = message => {
      context.added += 1;
      context.seq += 1;
      deliver({ ...message, seq: context.seq });
    };
    const end = other => (code, reason) => other.close(code >= 4000 || code === 1000 || code === 1001 ? code : 1001, String(reason).slice(0, 100));
    client.on('close', end(backend));
    backend.on('close', end(client));
    client.on('error', () => backend.terminate());
    backend.on('error', () => client.terminate());
  });
  await new Promise(done => server.listen(0, '127.0.0.1', done));
  cleanup.add(() => {
    for (const client of sockets.clients) client.terminate();
    server.closeAllConnections();
    return new Promise(done => server.close(done));
  });
  meddler.origin = `http://127.0.0.1:${server.address().port}`;
  return meddler;
}

/** Another certificate's fingerprint in place of every one in this SDP. */
export const swapFingerprints = sdp =>
  sdp.replace(/(a=fingerprint:sha-256 )([0-9A-F:]+)/gi, (_, head, digest) => {
    const first = (parseInt(digest.slice(0, 2), 16) ^ 0xff).toString(16).toUpperCase().padStart(2, '0');
    return head + first + digest.slice(2);
  });
