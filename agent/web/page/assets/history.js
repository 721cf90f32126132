// The last minutes of lag and rate of every consumer. All series share one axis of times, so
// a thousand consumers cost two small arrays each, and an update writes two numbers.

const slots = 150; // five minutes at one sample in two seconds

export class History {
  constructor() {
    this.times = new Float64Array(slots);
    this.series = new Map(); // by name
    this.next = 0; // how many samples there were
  }

  // push stores one sample of each consumer. Samples that come too soon replace the last.
  push(time, consumers) {
    if (this.next === 0 || time - this.times[(this.next - 1) % slots] > 1000) this.next++;
    const slot = (this.next - 1) % slots;
    this.times[slot] = time;
    for (const series of this.series.values()) series.lag[slot] = series.rate[slot] = NaN;
    for (const c of consumers) {
      let series = this.series.get(c.name);
      if (!series) {
        series = {lag: new Float64Array(slots).fill(NaN), rate: new Float64Array(slots).fill(NaN)};
        this.series.set(c.name, series);
      }
      series.lag[slot] = c.lag ?? NaN;
      series.rate[slot] = c.records_per_second ?? NaN;
      series.seen = time;
    }
    if (slot === 0) {
      for (const [name, series] of this.series) if (time - series.seen > 600000) this.series.delete(name);
    }
  }

  // read calls back with time and value of each sample of a series, oldest first.
  read(name, kind, callback) {
    const values = this.series.get(name)?.[kind];
    if (!values) return;
    for (let i = Math.max(0, this.next - slots); i < this.next; i++) callback(this.times[i % slots], values[i % slots]);
  }

  // span returns the milliseconds from the first sample to the last one.
  get span() {
    if (this.next === 0) return 0;
    return this.times[(this.next - 1) % slots] - this.times[Math.max(0, this.next - slots) % slots];
  }

  get last() { return this.next === 0 ? 0 : this.times[(this.next - 1) % slots]; }
}
