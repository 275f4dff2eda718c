// A certificate for a relay of the tests, made for one run: nobody but the test trusts it.

import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/**
 * Makes a key and a certificate that is its own authority, for names such as `DNS:localhost` or `IP:127.0.0.1`.
 *
 * `flags` makes Chromium take this key and no other, for the page and for TURN over TLS alike.
 */
export function certificate(cleanup, names = ['DNS:localhost', 'IP:127.0.0.1', 'IP:::1']) {
  const folder = mkdtempSync(join(tmpdir(), 'snug-tls-'));
  cleanup.add(() => rmSync(folder, { recursive: true, force: true }));
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const subject = ['-subj', '/CN=snug test', '-addext', `subjectAltName=${names.join(',')}`, '-addext', 'basicConstraints=critical,CA:FALSE'];
  execFileSync('openssl', ['req', '-x509', ...curve, '-keyout', key, '-out', cert, '-days', '2', ...subject], { stdio: 'pipe' });
  const pem = readFileSync(cert, 'utf8');
  const spki = new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' });
  const pin = createHash('sha256').update(spki).digest('base64');
  return { cert, key, pem, args: ['--tls-cert', cert, '--tls-key', key], flags: [`--ignore-certificate-errors-spki-list=${pin}`] };
}
