import assert from "node:assert/strict";
import { test } from "node:test";
import { Heights } from "../src/heights.js";

test("rows begin where the ones before them end", () => {
  const heights = new Heights(10);
  heights.grow(4);
  assert.equal(heights.total, 40);
  assert.equal(heights.set(1, 25), 15);
  assert.equal(heights.set(1, 25), 0);
  assert.deepEqual([0, 1, 2, 3, 4].map((row) => heights.before(row)), [0, 10, 35, 45, 55]);
});

test("what lies at a place", () => {
  const heights = new Heights(10);
  heights.grow(3);
  heights.set(0, 30);
  assert.deepEqual([0, 29, 30, 39, 40, 49, 50, 999].map((pixels) => heights.at(pixels)), [0, 0, 1, 1, 2, 2, 2, 2]);
  assert.equal(new Heights(10).at(5), 0);
});

test("rows that come above push the others down", () => {
  const heights = new Heights(10);
  heights.grow(2);
  heights.set(0, 33);
  heights.prepend(3);
  assert.equal(heights.count, 5);
  assert.equal(heights.before(3), 30);
  assert.equal(heights.total, 73);
  heights.grow(1);
  assert.equal(heights.total, 10);
});

test("as plain addition says, at random", () => {
  let seed = 7;
  const random = (below: number) => (seed = (seed * 48271) % 2147483647) % below;
  const heights = new Heights(20);
  let sizes: number[] = [];
  for (let step = 0; step < 2000; step++) {
    const act = random(4);
    if (act === 0) {
      heights.grow(sizes.length + 3);
      sizes = [...sizes, 20, 20, 20];
    } else if (act === 1 && sizes.length < 500) {
      heights.prepend(2);
      sizes = [20, 20, ...sizes];
    } else if (sizes.length > 0) {
      const row = random(sizes.length);
      const size = random(100);
      heights.set(row, size);
      sizes[row] = size;
    }
    if (step % 100 === 0 && sizes.length > 0) {
      const pixels = random(heights.total + 1);
      let row = 0;
      let sum = 0;
      while (row < sizes.length - 1 && sum + (sizes[row] ?? 0) <= pixels) sum += sizes[row++] ?? 0;
      assert.equal(heights.at(pixels), row);
      assert.equal(heights.before(row), sum);
    }
  }
});

test("a hundred thousand rows are no effort", () => {
  const heights = new Heights(56);
  heights.grow(100_000);
  const started = performance.now();
  for (let row = 0; row < 100_000; row += 10) heights.set(row, 60);
  for (let pixels = 0; pixels < heights.total; pixels += 5_000) heights.at(pixels);
  assert.ok(performance.now() - started < 2_000);
});
