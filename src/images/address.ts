/**
 * Whether an address is one of the public internet: what a server may be sent to by somebody else's URL. Everything is judged as bytes, never
 * as text, so that no notation says something else than what is connected to. What IANA's special-purpose registries know is refused, and of
 * IPv6 everything outside 2000::/3; where an address only carries an IPv4 address (mapped, NAT64), that one is judged.
 */
import { BlockList, isIPv4, isIPv6 } from 'node:net';

/** IANA IPv4 Special-Purpose Address Registry, multicast, and what is reserved. */
const SPECIAL_V4 = [
  ['0.0.0.0', 8], // this network
  ['10.0.0.0', 8],
  ['100.64.0.0', 10], // carrier-grade NAT; a cloud's metadata service
  ['127.0.0.0', 8],
  ['168.63.129.16', 32], // a cloud's own services behind an address that looks public
  ['169.254.0.0', 16], // link-local; metadata services
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24], // documentation
  ['192.31.196.0', 24], // AS112
  ['192.52.193.0', 24], // AMT
  ['192.88.99.0', 24], // 6to4 relays
  ['192.168.0.0', 16],
  ['192.175.48.0', 24], // AS112
  ['198.18.0.0', 15], // benchmarks
  ['198.51.100.0', 24], // documentation
  ['203.0.113.0', 24], // documentation
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved; broadcast
] as const;

/** The same of IPv6, as far as it lies in 2000::/3. */
const SPECIAL_V6 = [
  ['2001::', 23], // IETF protocols: Teredo, benchmarks, ORCHID
  ['2001:db8::', 32], // documentation
  ['2002::', 16], // 6to4
  ['2620:4f:8000::', 48], // AS112
  ['3ffe::', 16], // 6bone
  ['3fff::', 20], // documentation
] as const;

const SPECIAL = new BlockList();
for (const [network, prefix] of SPECIAL_V4) SPECIAL.addSubnet(network, prefix, 'ipv4');
for (const [network, prefix] of SPECIAL_V6) SPECIAL.addSubnet(network, prefix, 'ipv6');

/** In front of an IPv4 address: mapped (::ffff:0:0/96), and RFC 6052's NAT64 prefix (64:ff9b::/96), by which networks without IPv4 reach it. */
const CARRIERS = [
  [0, 0, 0, 0, 0, 0xffff],
  [0x64, 0xff9b, 0, 0, 0, 0],
] as const;

/** `address` in the notation that the system gives, without brackets. What is no address is not public. */
export function isPublic(address: string): boolean {
  if (isIPv4(address)) return !SPECIAL.check(address, 'ipv4');
  // A zone belongs to addresses that mean something on one link only.
  if (!isIPv6(address) || address.includes('%')) return false;
  const words = wordsOf(address);
  const carried = CARRIERS.some((prefix) => prefix.every((word, at) => words[at] === word));
  if (carried) return isPublic(dotted(words.slice(6)));
  return (words[0] as number) >> 13 === 1 && !isIsatap(words) && !SPECIAL.check(address, 'ipv6');
}

/** An interface that carries an IPv4 address (RFC 5214): a tunnel into whatever network that is. */
function isIsatap(words: readonly number[]): boolean {
  return ((words[4] as number) & 0xfdff) === 0 && words[5] === 0x5efe;
}

/** The eight words of an IPv6 address. */
function wordsOf(address: string): number[] {
  const [head = [], tail] = address.split('::').map((part) => part.split(':').flatMap(readWord));
  if (tail === undefined) return head;
  return [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => 0), ...tail];
}

function readWord(text: string): number[] {
  if (text === '') return [];
  if (!text.includes('.')) return [Number.parseInt(text, 16)];
  const [a = 0, b = 0, c = 0, d = 0] = text.split('.').map(Number);
  return [a * 256 + b, c * 256 + d];
}

function dotted(words: readonly number[]): string {
  return words.flatMap((word) => [word >> 8, word & 255]).join('.');
}
