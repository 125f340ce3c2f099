/** A figure that a result rests on, so that a report can print it beside the result. */
export interface Assumption {
  /** What it is, such as `network: rack oversubscription`. */
  readonly name: string;
  readonly value: number;
  /** Such as `USD/h`, `W`, `bytes/s`; empty for a ratio. */
  readonly unit: string;
  /** Who says so: the scenario, a catalogue source, a default with its origin. */
  readonly source: string;
}
