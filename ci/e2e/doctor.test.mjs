// `snug doctor` against real relays, sound ones and others: what it finds, what it says to do, and with which code it ends.

import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as listen } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { native, nativeBinary } from './lib/native.mjs';
import { newRoom, startRelay } from './lib/relay.mjs';
import { scenario } from './lib/scenario.mjs';

/** Runs the doctor to its end: its exit code, its findings by check, its last line, and all that it printed. */
function doctor(...args) {
  return new Promise((done, failed) => {
    execFile(nativeBinary(), ['doctor', '--json', ...args], { timeout: 30_000 }, (error, stdout, stderr) => {
      if (error && typeof error.code !== 'number') return failed(error);
      const lines = stdout.trim().split('\n').filter(Boolean).map(line => JSON.parse(line));
      const last = lines.pop();
      const found = {};
      for (const line of lines) (found[line.check] ??= []).push(line);
      const states = Object.fromEntries(lines.map(line => [line.check, line.state]));
      done({ exit: error?.code ?? 0, found, states, last, text: stdout + stderr });
    });
  });
}

/** An authority of this test and a certificate of it for `names`, valid from `from` to `to` (YYYYMMDD). */
function signed(cleanup, { names = ['DNS:localhost', 'IP:127.0.0.1'], from = null, to = null } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'snug-doctor-'));
  cleanup.add(() => rmSync(folder, { recursive: true, force: true }));
  const openssl = (...args) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '30', '-subj', '/O=Snug tests');
  openssl('req', '-new', ...key, '-keyout', 'key.pem', '-out', 'request.pem', '-subj', '/CN=relay', '-addext', `subjectAltName=${names.join(',')}`);
  writeFileSync(
    join(folder, 'ca.cnf'),
    `[ca]\ndefault_ca=own\n[own]\nnew_certs_dir=.\ndatabase=index\nserial=serial\ndefault_md=sha256\ndefault_days=20\npolicy=any\ncopy_extensions=copy\n[any]\ncommonName=supplied\n`,
  );
  writeFileSync(join(folder, 'index'), '');
  writeFileSync(join(folder, 'serial'), '01\n');
  const dates = from ? ['-startdate', `${from}000000Z`, '-enddate', `${to}000000Z`] : [];
  openssl('ca', '-batch', '-config', 'ca.cnf', '-cert', 'ca.pem', '-keyfile', 'ca.key', '-in', 'request.pem', '-out', 'cert.pem', '-notext', ...dates);
  const path = name => join(folder, name);
  return { ca: path('ca.pem'), args: ['--tls-cert', path('cert.pem'), '--tls-key', path('key.pem')] };
}

/** For tests of the certificate alone: no port that others may hold. */
const NO_TLS_TURN = ['--turn-tls-listen', 'off'];
const CHECKS = ['name', 'connection', 'certificate', 'page', 'health', 'clock', 'web-socket', 'quic', 'room', 'stun', 'turn-udp', 'turn-tcp', 'turn-tls'];

scenario('a sound relay passes every check, by its address and by a room link', async cleanup => {
  const { ca, args } = signed(cleanup);
  const relay = await startRelay(cleanup, { args: [...args, '--turn-tls-listen', '127.0.0.1:0'] });
  const origin = `https://localhost:${relay.port}`;
  const room = newRoom(relay, { origin });
  for (const address of [origin, room.url]) {
    const { exit, states, last, text } = await doctor(address, '--ca', ca);
    assert.deepEqual(states, Object.fromEntries(CHECKS.map(check => [check, 'ok'])), text);
    assert.deepEqual([exit, last], [0, { failures: 0, warnings: 0, exit: 0 }]);
    assert.ok(!text.includes(room.secret) && !text.includes(room.roomId), 'neither room nor secret are printed');
    assert.ok(!/[A-Za-z0-9+/]{27}=/.test(text), 'no credential is printed');
  }
});

scenario('the doctor speaks in lines for people, too, and ends with the verdict', async cleanup => {
  const relay = await startRelay(cleanup);
  const text = execFileSync(nativeBinary(), ['doctor', relay.origin], { encoding: 'utf8', timeout: 30_000 });
  assert.match(text, /^ok {4}name +\d+ ms {2}127\.0\.0\.1 is an address/m);
  assert.match(text, /^skip {2}certificate .*plain HTTP/m);
  assert.match(text, /^ok {4}turn \(tcp\) .* there and back$/m);
  assert.match(text, /^Everything is fine\.$/m);
});

scenario('a UDP port that is closed is told with the port to open, and TCP with what it carries', async cleanup => {
  // It takes everything and says nothing, as a firewall does.
  const silent = createSocket('udp4');
  await new Promise(done => silent.bind(0, '127.0.0.1', done));
  cleanup.add(() => silent.close());
  const { port } = silent.address();
  const secret = join(mkdtempSync(join(tmpdir(), 'snug-doctor-')), 'secret');
  cleanup.add(() => rmSync(dirname(secret), { recursive: true, force: true }));
  writeFileSync(secret, 'a secret of this test');
  const urls = [`stun:127.0.0.1:${port}`, `turn:127.0.0.1:${port}?transport=udp`, `turn:127.0.0.1:${port}?transport=tcp`];
  const relay = await startRelay(cleanup, {
    turnListen: null,
    args: ['--no-turn', '--turn-secret-file', secret, ...urls.flatMap(url => ['--ice-server', url])],
  });
  const { exit, states, found, text } = await doctor(relay.origin);
  assert.deepEqual([states.room, states.stun, states['turn-udp'], states['turn-tcp'], exit], ['ok', 'fail', 'fail', 'fail', 16], text);
  assert.match(found.stun[0].fix, new RegExp(`open UDP port ${port} in the relay's firewall`));
  assert.match(found['turn-udp'][0].message, new RegExp(`UDP port ${port} .* does not answer`));
  assert.match(found['turn-tcp'][0].message, /refuses the connection/);
  assert.equal(states.health, 'warn', 'the relay says itself that its own server is off');
});

scenario('a certificate for another name is told with the names that it is for', async cleanup => {
  const { ca, args } = signed(cleanup, { names: ['DNS:elsewhere.example'] });
  const relay = await startRelay(cleanup, { args: [...args, ...NO_TLS_TURN] });
  const { exit, found, text } = await doctor(`https://localhost:${relay.port}`, '--ca', ca);
  assert.equal(exit, 12, text);
  assert.match(found.certificate[0].message, /^the certificate of localhost is for elsewhere\.example, and not for this name$/);
  assert.equal(found.page, undefined, 'nothing is asked of who cannot be trusted');
});

scenario('a certificate that has expired is told with its age', async cleanup => {
  const { ca, args } = signed(cleanup, { from: '20240101', to: '20240201' });
  const relay = await startRelay(cleanup, { args: [...args, ...NO_TLS_TURN] });
  const { exit, found, text } = await doctor(`https://localhost:${relay.port}`, '--ca', ca);
  assert.equal(exit, 12, text);
  assert.match(found.certificate[0].message, /^the certificate of localhost expired \d{3,} days ago$/);
  assert.match(found.certificate[0].fix, /renew/);
});

scenario('a certificate of an unknown authority is refused, and one that ends soon is a warning', async cleanup => {
  const day = offset => new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10).replaceAll('-', '');
  const { ca, args } = signed(cleanup, { from: day(-2), to: day(4) });
  const relay = await startRelay(cleanup, { args: [...args, ...NO_TLS_TURN] });
  const origin = `https://localhost:${relay.port}`;
  const stranger = await doctor(origin, '--ca', signed(cleanup).ca);
  assert.equal(stranger.exit, 12, stranger.text);
  assert.match(stranger.found.certificate[0].message, /not signed by an authority/);
  const soon = await doctor(origin, '--ca', ca);
  assert.deepEqual([soon.exit, soon.states.certificate, soon.states['turn-tls']], [0, 'warn', 'warn'], soon.text);
  assert.match(soon.found.certificate[0].message, /valid for [34] more days/);
});

/** A certificate that signs itself, with these extensions. */
function selfSigned(cleanup, ...extensions) {
  const folder = mkdtempSync(join(tmpdir(), 'snug-doctor-'));
  cleanup.add(() => rmSync(folder, { recursive: true, force: true }));
  const [cert, key] = ['cert.pem', 'key.pem'].map(name => join(folder, name));
  const added = ['subjectAltName=DNS:localhost', ...extensions].flatMap(extension => ['-addext', extension]);
  const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30', '-subj', '/CN=relay'];
  execFileSync('openssl', [...made, '-keyout', key, '-out', cert, ...added], { stdio: 'pipe' });
  return { ca: cert, args: ['--tls-cert', cert, '--tls-key', key] };
}

scenario('a certificate that does not count is told in the same words by the doctor and to who joins', async cleanup => {
  const stranger = signed(cleanup).ca;
  const authority = selfSigned(cleanup, 'basicConstraints=critical,CA:TRUE');
  const server = selfSigned(cleanup, 'basicConstraints=critical,CA:FALSE');
  for (const [certificate, trusted, words] of [
    [authority, authority.ca, /^the certificate of localhost is an authority's, not a server's$/],
    [authority, stranger, /^the certificate of localhost is an authority's, not a server's$/],
    [server, stranger, /^the certificate of localhost is signed by itself, and not by an authority that this machine trusts$/],
    [signed(cleanup), stranger, /is not signed by an authority that this machine trusts, and came without the intermediate ones$/],
    [signed(cleanup, { from: '20240101', to: '20240201' }), null, /expired \d{3,} days ago$/],
  ]) {
    const relay = await startRelay(cleanup, { args: [...certificate.args, ...NO_TLS_TURN] });
    const [origin, ca] = [`https://localhost:${relay.port}`, trusted ?? certificate.ca];
    const { exit, found, text } = await doctor(origin, '--ca', ca);
    assert.equal(exit, 12, text);
    const [{ message, fix }] = found.certificate;
    assert.match(message, words);
    console.log(`“${message}; ${fix}”`);
    const guest = await native(cleanup, 'Ana', `${origin}/room/some-room`, { args: ['--ca', ca] }).ends();
    assert.equal(guest.ended.code, 'untrusted');
    assert.equal(guest.ended.message.toLowerCase(), `${message}; ${fix}.`.toLowerCase());
  }
});

scenario('nobody listening, an unknown name and a wrong address end with codes of their own', async cleanup => {
  const idle = listen();
  await new Promise(done => idle.listen(0, '127.0.0.1', done));
  const { port } = idle.address();
  await new Promise(done => idle.close(done));
  const nobody = await doctor(`http://127.0.0.1:${port}`);
  assert.deepEqual([nobody.exit, nobody.states], [11, { name: 'ok', connection: 'fail' }], nobody.text);
  assert.match(nobody.found.connection[0].fix, /start the relay/);
  const unknown = await doctor('https://no-such-relay.invalid');
  assert.deepEqual([unknown.exit, unknown.states], [10, { name: 'fail' }], unknown.text);
  const wrong = await doctor('ftp://127.0.0.1');
  assert.equal(wrong.exit, 2);
  assert.match(wrong.text, /https:\/\//);
});

scenario('another web server, and a relay whose clock is wrong, are told apart', async cleanup => {
  const relay = await startRelay(cleanup);
  const serve = async handler => {
    const server = createServer(handler);
    await new Promise(done => server.listen(0, '127.0.0.1', done));
    cleanup.add(() => (server.closeAllConnections(), server.close()));
    return `http://127.0.0.1:${server.address().port}`;
  };
  const other = await doctor(await serve((request, response) => response.end('<h1>It works!</h1>')));
  assert.deepEqual([other.exit, other.states.page, other.states.health, other.states['web-socket']], [13, 'fail', 'fail', 'fail'], other.text);
  // A proxy that passes pages on, with the date of an hour ago; it knows no WebSockets.
  const late = await serve(async (request, response) => {
    const answer = await fetch(relay.origin + request.url);
    response.setHeader('Date', new Date(Date.now() - 3_600_000).toUTCString());
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  const { exit, found, states, text } = await doctor(late);
  assert.deepEqual([exit, states.page, states.clock, states['web-socket']], [14, 'ok', 'fail', 'fail'], text);
  assert.match(found.clock[0].message, /3[56]\d\d s behind/);
  assert.match(found['web-socket'][0].fix, /proxy/);
});
