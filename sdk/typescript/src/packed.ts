/** How descriptors stand in the built package: see scripts/slim.mjs. */

/** Characters that descriptors hardly have, each in place of the control character of its number. */
export const STAND_INS = "+,-456789:;<=>?@JQXYZ[]^`jz{|}~";

/** Swaps control characters and their stand-ins; twice gives the text back. */
export function swapped(text: string): string {
  let made = "";
  for (const char of text) {
    const code = STAND_INS.indexOf(char);
    made += code >= 0 ? String.fromCharCode(code) : (STAND_INS[char.charCodeAt(0)] ?? char);
  }
  return made;
}

/** A descriptor's bytes, one a character and swapped, as the base64 that Protobuf-ES takes. */
export function packed(text: string): string {
  return btoa(swapped(text));
}
