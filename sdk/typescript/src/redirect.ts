/**
 * Whether a client goes where a server sends it (`Close.address`).
 *
 * A client shows its token to whatever it connects to. A server that was taken over, or one whose
 * settings are wrong, could send all its clients to a host of somebody else, or to a plain-text port.
 * So an address of the server is followed only if it is one of those that the application gave, or if
 * the application allows it; and never from TLS to plain text. An address that is not followed costs
 * nothing: the client reconnects to one of its own.
 */

import { baseUrl } from "./addresses.js";

/** Decides on an address that a server names and that is not one of the client's own. */
export type AllowAddress = (address: string) => boolean;

/** Makes the rule for a client: the server's address is compared as it is written. */
export function mayFollow(
  addresses: readonly string[],
  insecure: boolean,
  allow: AllowAddress | undefined,
): AllowAddress {
  const own = new Set(addresses);
  const hasTls = addresses.some((address) => baseUrl(address, insecure).startsWith("https:"));
  return (address) => {
    if (own.has(address)) return true;
    try {
      if (allow === undefined || !allow(address)) return false;
      return !hasTls || baseUrl(address, insecure).startsWith("https:");
    } catch {
      return false;
    }
  };
}
