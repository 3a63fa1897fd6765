/** A message's text as parts to be shown as elements: links are found, nothing is ever markup. */

export type Part =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "link"; readonly text: string; readonly href: string };

/** Longer texts are folded until somebody asks for all of it. */
export const FOLD_AT = 2_000;
const FOLD_LINES = 40;
const MAX_LINKS = 200;

const CANDIDATE = /\bhttps?:\/\/[^\s<>"']+/giu;
const TRAILING = /[.,;:!?)\]}'"*_]+$/u;

/** The parts of a text. Only http and https make links; anything else stays text. */
export function parts(text: string): Part[] {
  const found: Part[] = [];
  let at = 0;
  let links = 0;
  for (const match of text.matchAll(CANDIDATE)) {
    if (links >= MAX_LINKS) break;
    const raw = trimmed(match[0]);
    const href = safeUrl(raw);
    if (href === undefined) continue;
    if (match.index > at) found.push({ kind: "text", text: text.slice(at, match.index) });
    found.push({ kind: "link", text: raw, href });
    at = match.index + raw.length;
    links++;
  }
  if (at < text.length) found.push({ kind: "text", text: text.slice(at) });
  return found;
}

/** What a sentence puts behind a link is not of it; a closing bracket is if the link opened one. */
function trimmed(raw: string): string {
  const tail = TRAILING.exec(raw)?.[0] ?? "";
  if (tail === "") return raw;
  const link = raw.slice(0, raw.length - tail.length);
  return tail.startsWith(")") && link.includes("(") && !link.includes(")") ? `${link})` : link;
}

function safeUrl(raw: string): string | undefined {
  try {
    const url = new URL(raw);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : undefined;
  } catch {
    return undefined;
  }
}

/** The beginning of a long text; the text itself if it is short. */
export function folded(text: string): string {
  const short = text.length > FOLD_AT ? cut(text, FOLD_AT) : text;
  const lines = short.split("\n", FOLD_LINES + 1);
  return lines.length > FOLD_LINES ? lines.slice(0, FOLD_LINES).join("\n") : short;
}

/** So many UTF-16 units at most, and no half of a pair. */
function cut(text: string, length: number): string {
  const code = text.charCodeAt(length - 1);
  return text.slice(0, code >= 0xd800 && code < 0xdc00 ? length - 1 : length);
}

/** Whether a text holds what is searched, without regard to case. */
export function matches(text: string, wanted: string): boolean {
  return text.toLocaleLowerCase().includes(wanted.toLocaleLowerCase());
}
