/**
 * The core against a model server of two nodes, with all that may go wrong, in random order.
 *
 * What must hold: the application sees every channel dense (within what the user may see), in order, each
 * entry once; every message is stored once, in the order of the calls, and its outcome is true.
 */

import { test } from "node:test";
import { World } from "./world.js";

const RUNS = Number(process.env["CHINWAG_SEEDS"] ?? 150);
const FIRST_SEED = Number(process.env["CHINWAG_SEED"] ?? 1);

async function run(seed: number, steps: number): Promise<void> {
  const world = new World(seed);
  await world.run(steps);
  await world.settle();
  world.check();
}

test("dense, in order and once", async () => {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed++) {
    try {
      await run(seed, (seed * 37) % 400);
    } catch (error) {
      throw new Error(`seed ${seed}: CHINWAG_SEED=${seed} CHINWAG_SEEDS=1 repeats it`, { cause: error });
    }
  }
});

test("a long run", async () => {
  await run(1, 2000);
});
