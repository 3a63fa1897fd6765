/** Where a client may connect: one address or several, and whether in the clear. */

import { InsecureAddress } from "./errors.js";

/** "https://host", "host:port", several with commas, or a list of such. */
export type Addresses = string | Iterable<string>;

export const MAX_ADDRESSES = 100;

/**
 * Reads addresses.
 *
 * @returns Each address once, in the order given.
 * @throws TypeError None is given, one is empty or holds white space, or there are too many.
 */
export function parseAddresses(addresses: Addresses): string[] {
  const text = typeof addresses === "string" ? addresses : [...addresses].join(",");
  const found = [...new Set(text.split(",").map((part) => part.trim().replace(/\/+$/, "")))];
  if (found.some((part) => part === "" || /\s/.test(part))) {
    throw new TypeError(
      `expected an address such as https://chat.example.com, or several with commas, got "${text}"`,
    );
  }
  if (found.length > MAX_ADDRESSES) {
    throw new TypeError(`expected at most ${MAX_ADDRESSES} addresses, got ${found.length}`);
  }
  return found;
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "[::1]" || /^127(\.\d{1,3}){3}$/.test(host);
}

/**
 * The URL behind an address. Without a scheme it is https, or http for loopback and where
 * `insecure` says that the network is trusted.
 *
 * @throws InsecureAddress It is http over a network that nobody called trusted.
 */
export function baseUrl(address: string, insecure = false): string {
  const hasScheme = /^https?:\/\//.test(address);
  let url: URL;
  try {
    url = new URL(hasScheme ? address : `https://${address}`);
  } catch {
    throw new TypeError(`"${address}" is no address: expected https://host or host:port`);
  }
  if (url.username !== "" || url.password !== "") {
    throw new TypeError("an address holds no user name or password");
  }
  const isPlain = hasScheme ? url.protocol === "http:" : isLoopback(url.hostname) || insecure;
  if (isPlain && !insecure && !isLoopback(url.hostname)) {
    throw new InsecureAddress(
      `${address} is plain http, and the session's token would cross the network in the clear: ` +
        "use https, or pass insecure: true over a network that you trust",
    );
  }
  const path = url.pathname.replace(/\/+$/, "");
  // Not url.host: for https it would leave out port 443 and, without a scheme, 80 for http.
  if (!hasScheme) return `${isPlain ? "http" : "https"}://${address.replace(/\/+$/, "")}`;
  return `${url.origin}${path}`;
}
