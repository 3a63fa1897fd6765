/** A list of which only what can be seen is drawn, and which keeps its place when rows come above. */

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { Heights } from "./heights.js";

const ESTIMATE_PX = 56;
const OVERSCAN_PX = 600;
const NEAR_TOP_PX = 800;
const NEAR_END_PX = 60;

interface Props {
  readonly count: number;
  readonly label: string;
  /** What a row is known by, whatever comes before and behind it. */
  keyOf(index: number): string;
  row(index: number): ComponentChildren;
  onNearTop(): void;
  onAtEnd(atEnd: boolean): void;
}

export function VirtualList({ count, label, keyOf, row, onNearTop, onAtEnd }: Props) {
  const outer = useRef<HTMLDivElement>(null);
  const state = useRef({ heights: new Heights(ESTIMATE_PX), first: "", atEnd: true });
  const [, redraw] = useState(0);

  const first = count > 0 ? keyOf(0) : "";
  if (first !== state.current.first) {
    const rows = placeOf(state.current.first, count, keyOf);
    if (rows === undefined) state.current.heights = new Heights(ESTIMATE_PX);
    else {
      state.current.heights.prepend(rows);
      if (outer.current !== null) outer.current.scrollTop += rows * ESTIMATE_PX;
    }
    state.current.first = first;
  }
  const { heights } = state.current;
  heights.grow(count);

  const height = outer.current?.clientHeight ?? 800;
  const top = state.current.atEnd ? Math.max(0, heights.total - height) : (outer.current?.scrollTop ?? 0);
  const from = heights.at(Math.max(0, top - OVERSCAN_PX));
  const to = Math.min(count, heights.at(top + height + OVERSCAN_PX) + 1);

  useLayoutEffect(() => {
    const element = outer.current;
    if (element === null) return;
    let above = 0;
    let changed = false;
    for (const node of element.querySelectorAll<HTMLElement>("[data-row]")) {
      const index = Number(node.dataset["row"]);
      const before = heights.before(index);
      const difference = heights.set(index, node.offsetHeight);
      if (difference === 0) continue;
      changed = true;
      if (before < element.scrollTop) above += difference;
    }
    if (state.current.atEnd) element.scrollTop = element.scrollHeight;
    else if (above !== 0) element.scrollTop += above;
    if (changed) redraw((number) => number + 1);
  });

  const look = () => {
    const element = outer.current;
    if (element === null) return;
    const atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_END_PX;
    state.current.atEnd = atEnd;
    onAtEnd(atEnd);
    if (element.scrollTop < NEAR_TOP_PX) onNearTop();
    redraw((number) => number + 1);
  };

  useLayoutEffect(() => {
    const element = outer.current;
    if (element === null) return;
    // Who reads the newest goes on to when the keyboard of a phone takes half of the screen.
    const observer = new ResizeObserver(() => { redraw((number) => number + 1); });
    observer.observe(element);
    return () => { observer.disconnect(); };
  }, []);

  const rows: ComponentChildren[] = [];
  for (let index = from; index < to; index++) {
    rows.push(<div key={keyOf(index)} data-row={index}>{row(index)}</div>);
  }
  return (
    <div ref={outer} class="list" role="log" aria-label={label} tabIndex={0} onScroll={look}>
      <Space px={heights.before(from)} />
      {rows}
      <Space px={heights.total - heights.before(to)} />
    </div>
  );
}

/** Where a row is now; undefined if it is not there. */
function placeOf(key: string, count: number, keyOf: (index: number) => string): number | undefined {
  if (key === "") return undefined;
  for (let index = 0; index < count; index++) if (keyOf(index) === key) return index;
  return undefined;
}

/** Empty space; its height is set by script, since the page's CSP allows no style in the markup. */
function Space({ px }: { px: number }) {
  const element = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (element.current !== null) element.current.style.height = `${px}px`;
  });
  return <div ref={element} aria-hidden="true" />;
}
