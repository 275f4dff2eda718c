// A small internet on one machine: a relay's network, a router, and two homes, each in a network namespace of its own.
//
//      home A ── r-a ┐
//                    router (10.99.0.1 and fd99::1, the relay listens here)
//      home B ── r-b ┘
//
// The router can keep the homes from each other, and a home from all UDP; both ways packets vanish, as they do at a firewall.
// Nothing in it is connected to the machine's own network. It needs root; `whyNot` says why it cannot be built elsewhere.

import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { whyWithout } from './needs.mjs';

export const RELAY_HOST = '10.99.0.1';
export const RELAY_HOST_6 = 'fd99::1';

/** The network behind a home's NAT. */
const NAT_HOST = '192.168.1';

/** What such a NAT keeps of a packet that went out, and which of those that come it lets in by that. */
const LET_IN = {
  'full-cone': { of: 'inet_service', note: 'udp sport', known: 'udp dport' },
  address: { of: 'inet_service . ipv4_addr', note: 'udp sport . ip daddr', known: 'udp dport . ip saddr' },
};

/** Why no network namespace can be made here, or null. */
export function whyNot() {
  if (process.getuid() !== 0) return 'needs root to make network namespaces';
  const tool = whyWithout('iproute2', 'ip') ?? whyWithout('procps', 'sysctl') ?? whyWithout('nftables', 'nft');
  if (tool) return tool;
  const name = `snugtry${process.pid}`;
  const made = spawnSync('ip', ['netns', 'add', name]);
  if (made.status !== 0) return `network namespaces are not allowed here: ${String(made.stderr).trim()}`;
  execFileSync('ip', ['netns', 'del', name]);
  return null;
}

export class Lab {
  #folder = mkdtempSync(join(tmpdir(), 'snug-lab-'));
  #id = process.pid;
  #ipv6;

  /** With `ipv6`, homes have addresses of both families. */
  constructor(cleanup, { ipv6 = false } = {}) {
    this.#ipv6 = ipv6;
    this.router = `snugr${this.#id}`;
    cleanup.add(() => rmSync(this.#folder, { recursive: true, force: true }));
    this.#namespace(cleanup, this.router);
    this.in(this.router, `ip addr add ${RELAY_HOST}/32 dev lo`);
    this.in(this.router, `ip addr add ${RELAY_HOST_6}/128 dev lo`);
    this.forward(true);
    this.homes = { a: this.#home(cleanup, 'a', 1), b: this.#home(cleanup, 'b', 2) };
  }

  /** Runs a command in a namespace. */
  in(namespace, command) {
    return execFileSync('ip', ['netns', 'exec', namespace, ...command.split(' ')], { encoding: 'utf8' });
  }

  /** The command prefix that starts a program in the router's namespace. */
  get inside() {
    return ['ip', 'netns', 'exec', this.router];
  }

  /** A program that is Chromium, started in a home. */
  chromiumIn(home) {
    return this.#programIn(home, process.env.SNUG_CHROMIUM ?? '/usr/bin/chromium');
  }

  /** A program that is Firefox, started in a home. */
  firefoxIn(home) {
    return this.#programIn(home, process.env.SNUG_FIREFOX ?? '/usr/bin/firefox-esr');
  }

  #programIn(home, program) {
    const path = join(this.#folder, `${basename(program)}-${home}`);
    writeFileSync(path, `#!/bin/sh\nexec ip netns exec ${this.homes[home].namespace} ${program} "$@"\n`);
    chmodSync(path, 0o755);
    return path;
  }

  /** Takes a home's cable out, or puts it back in. The home sees its carrier go; its addresses stay. */
  cable(home, plugged) {
    this.in(this.router, `ip link set r-${home} ${plugged ? 'up' : 'down'}`);
  }

  /** Makes everything to and from a home vanish on the way, or not. The home's own interface stays as it is. */
  swallow(home, on) {
    const rules = [`iif r-${home}`, `to ${this.homes[home].address}`];
    if (!on) return rules.forEach((_, at) => this.in(this.router, `ip rule del pref ${at + 3}`));
    // Before the table of the router's own addresses, as in `dropUdp`.
    if (this.in(this.router, 'ip rule show pref 0').trim() !== '') {
      this.in(this.router, 'ip rule add pref 9 lookup local');
      this.in(this.router, 'ip rule del pref 0');
    }
    rules.forEach((rule, at) => this.in(this.router, `ip rule add pref ${at + 3} ${rule} blackhole`));
  }

  /**
   * A network behind a home's router, which translates addresses; its namespace. By `kind` (RFC
   * 4787), the router lets in what comes to a port that something inside has sent from: from
   * anybody (`full-cone`), from addresses that it has sent to (`address`), or from addresses and
   * ports that it has sent to (`port`); `symmetric` is as the last, with another port for every
   * destination.
   */
  behindNat(cleanup, { namespace }, { kind }) {
    const inner = `${namespace}n`;
    this.#namespace(cleanup, inner);
    this.in(namespace, `ip link add inside type veth peer name eth0 netns ${inner}`);
    this.in(namespace, `ip addr add ${NAT_HOST}.1/24 dev inside`);
    this.in(namespace, 'ip link set inside up');
    this.in(inner, `ip addr add ${NAT_HOST}.2/24 dev eth0`);
    this.in(inner, 'ip link set eth0 up');
    this.in(inner, `ip route add default via ${NAT_HOST}.1`);
    this.in(namespace, 'sysctl -qw net.ipv4.ip_forward=1');
    const nft = rule => this.in(namespace, `nft ${rule}`);
    nft('add table ip nat');
    nft('add chain ip nat out { type nat hook postrouting priority srcnat ; }');
    nft(`add rule ip nat out oifname eth0 masquerade${kind === 'symmetric' ? ' fully-random' : ''}`);
    // What nobody inside asked for is dropped before the kernel makes a note of it, which would take
    // the port from whoever answers.
    nft('add table ip filter');
    for (const hook of ['input', 'forward']) nft(`add chain ip filter ${hook} { type filter hook ${hook} priority filter ; }`);
    const { of, note, known } = LET_IN[kind] ?? {};
    if (of) {
      // Ports stay as they are, so a note of what went out says what may come in.
      nft(`add set ip filter noted { type ${of} ; flags dynamic,timeout ; timeout 3m ; }`);
      nft(`add rule ip filter forward oifname eth0 meta l4proto udp update @noted { ${note} }`);
      nft('add chain ip nat in { type nat hook prerouting priority dstnat ; }');
      nft('add chain ip filter early { type filter hook prerouting priority mangle ; }');
      nft(`add rule ip filter early iifname eth0 meta l4proto udp ${known} @noted meta mark set 1`);
      nft(`add rule ip nat in meta mark 1 dnat to ${NAT_HOST}.2`);
      nft('add rule ip filter forward iifname eth0 meta mark 1 accept');
    }
    for (const hook of ['input', 'forward']) nft(`add rule ip filter ${hook} iifname eth0 ct state new drop`);
    return inner;
  }

  /** Moves a home into another network: its address and its way out are replaced, as when a phone leaves its Wi-Fi. */
  roam(home, network) {
    const { namespace, address } = this.homes[home];
    this.in(this.router, `ip addr add 10.99.${network}.1/24 dev r-${home}`);
    this.in(namespace, `ip addr del ${address}/24 dev eth0`);
    this.in(namespace, `ip addr add 10.99.${network}.2/24 dev eth0`);
    this.in(namespace, `ip route replace default via 10.99.${network}.1`);
    this.homes[home].address = `10.99.${network}.2`;
  }

  /** Whether homes reach each other. The relay they always reach. */
  forward(on) {
    this.in(this.router, `sysctl -qw net.ipv4.ip_forward=${on ? 1 : 0} net.ipv6.conf.all.forwarding=${on ? 1 : 0}`);
  }

  /** Drops all UDP that a home sends, to the relay as well. */
  dropUdp(home) {
    // Before the table of the router's own addresses, which is asked first unless it is moved.
    for (const version of ['-4', '-6']) {
      this.in(this.router, `ip ${version} rule add pref 1 iif r-${home} ipproto udp blackhole`);
      if (this.in(this.router, `ip ${version} rule show pref 0`).trim() === '') continue;
      this.in(this.router, `ip ${version} rule add pref 2 lookup local`);
      this.in(this.router, `ip ${version} rule del pref 0`);
    }
  }

  #namespace(cleanup, name) {
    execFileSync('ip', ['netns', 'add', name]);
    cleanup.add(() => execFileSync('ip', ['netns', 'del', name]));
    this.in(name, 'ip link set lo up');
  }

  #home(cleanup, name, network) {
    const namespace = `snug${name}${this.#id}`;
    this.#namespace(cleanup, namespace);
    this.in(this.router, `ip link add r-${name} type veth peer name eth0 netns ${namespace}`);
    this.in(this.router, `ip addr add 10.99.${network}.1/24 dev r-${name}`);
    this.in(this.router, `ip link set r-${name} up`);
    this.in(namespace, `ip addr add 10.99.${network}.2/24 dev eth0`);
    this.in(namespace, 'ip link set eth0 up');
    this.in(namespace, `ip route add default via 10.99.${network}.1`);
    if (this.#ipv6) {
      this.in(this.router, `ip addr add fd99:${network}::1/64 dev r-${name} nodad`);
      this.in(namespace, `ip addr add fd99:${network}::2/64 dev eth0 nodad`);
      this.in(namespace, `ip route add default via fd99:${network}::1`);
    }
    return { namespace, address: `10.99.${network}.2` };
  }
}
