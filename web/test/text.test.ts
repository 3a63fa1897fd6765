import assert from "node:assert/strict";
import { test } from "node:test";
import { FOLD_AT, folded, matches, parts } from "../src/text.js";

test("links are found, and nothing else is one", () => {
  assert.deepEqual(parts("see https://a.example/x?y=1."), [
    { kind: "text", text: "see " },
    { kind: "link", text: "https://a.example/x?y=1", href: "https://a.example/x?y=1" },
    { kind: "text", text: "." },
  ]);
  for (const text of ["javascript:alert(1)", "data:text/html,x", "http://", "<a href='x'>", "ftp://a.b"]) {
    assert.ok(parts(text).every((part) => part.kind === "text"), text);
  }
});

test("the parts are the text again", () => {
  for (const text of ["", "a", "https://a.b", "(https://a.b/c_(d)) and http://e.f, ok", "https://a.b\nhttps://c.d"]) {
    assert.equal(parts(text).map((part) => part.text).join(""), text);
  }
});

test("long texts are folded, and no half of a character is shown", () => {
  assert.equal(folded("short"), "short");
  const long = "😀".repeat(FOLD_AT);
  const short = folded(long);
  assert.ok(short.length <= FOLD_AT);
  assert.ok(long.startsWith(short));
  assert.equal(short.length % 2, 0);
  assert.equal(folded("x\n".repeat(500)).split("\n").length, 40);
});

test("searching", () => {
  assert.ok(matches("Hello World", "o w"));
  assert.ok(!matches("Hello", "xyz"));
});
