/**
 * The heights of rows of a list of which only a window is drawn: where each row begins, and which rows
 * lie in a range of pixels, in O(log n) (Fenwick, "A new data structure for cumulative frequency tables",
 * Software: Practice and Experience 24(3), 1994).
 */
export class Heights {
  private sizes: number[] = [];
  private tree: number[] = [0];

  /** @param estimate Pixels of a row that was not measured yet. */
  constructor(private readonly estimate: number) {}

  get count(): number {
    return this.sizes.length;
  }

  /** All rows together. */
  get total(): number {
    return this.before(this.count);
  }

  /** Makes the list so long; new rows are added at the end. */
  grow(count: number): void {
    while (this.sizes.length < count) this.push(this.estimate);
    if (this.sizes.length > count) this.rebuild(this.sizes.slice(0, count));
  }

  /** Adds rows before the first one. */
  prepend(rows: number): void {
    this.rebuild([...new Array<number>(rows).fill(this.estimate), ...this.sizes]);
  }

  /** A row was measured. @returns By how much it is higher than was thought. */
  set(row: number, size: number): number {
    const difference = size - (this.sizes[row] ?? size);
    if (difference === 0) return 0;
    this.sizes[row] = size;
    for (let place = row + 1; place < this.tree.length; place += place & -place) {
      this.tree[place] = (this.tree[place] ?? 0) + difference;
    }
    return difference;
  }

  /** The pixels of the rows before one. */
  before(row: number): number {
    let sum = 0;
    for (let place = row; place > 0; place -= place & -place) sum += this.tree[place] ?? 0;
    return sum;
  }

  /** The row that lies at so many pixels from the top; the last one beyond the end. */
  at(pixels: number): number {
    let row = 0;
    let left = pixels;
    let step = 1;
    while (step * 2 <= this.count) step *= 2;
    for (; step > 0; step = step >> 1) {
      const size = this.tree[row + step];
      if (row + step <= this.count && size !== undefined && size <= left) {
        row += step;
        left -= size;
      }
    }
    return Math.min(row, Math.max(0, this.count - 1));
  }

  private push(size: number): void {
    this.sizes.push(size);
    const place = this.sizes.length;
    const from = place - (place & -place);
    this.tree.push(size + this.before(place - 1) - this.before(from));
  }

  private rebuild(sizes: number[]): void {
    this.sizes = sizes;
    const tree = [0, ...sizes];
    for (let place = 1; place < tree.length; place++) {
      const parent = place + (place & -place);
      if (parent < tree.length) tree[parent] = (tree[parent] ?? 0) + (tree[place] ?? 0);
    }
    this.tree = tree;
  }
}
