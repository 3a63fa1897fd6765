import { useState } from "preact/hooks";
import { folded, parts } from "./text.js";

/** A text with its links; a long one is folded. Foreign text is only ever text. */
export function MessageText({ text, own }: { text: string; own: string }) {
  const [open, setOpen] = useState(false);
  const short = folded(text);
  const isLong = short.length < text.length;
  return (
    <>
      <p class="text" dir="auto">
        {parts(open ? text : short).map((part, index) =>
          part.kind === "link" ? (
            <a key={index} href={part.href} target="_blank" rel="noopener noreferrer nofollow">{part.text}</a>
          ) : (
            <span key={index}>{mentioned(part.text, own)}</span>
          ),
        )}
        {isLong && !open && "…"}
      </p>
      {isLong && (
        <button class="quiet" onClick={() => { setOpen(!open); }}>{open ? "Show less" : `Show all ${text.length.toLocaleString()} characters`}</button>
      )}
    </>
  );
}

/** A text in which the own name, if it is mentioned, stands out. */
function mentioned(text: string, own: string) {
  if (own === "") return text;
  const pieces = text.split(`@${own}`);
  return pieces.flatMap((piece, index) => (index === 0 ? [piece] : [<mark key={index}>@{own}</mark>, piece]));
}
