/**
 * What one step computes, sequence by sequence, in the form that a perf model prices. One instance is filled again for
 * every step, so that pricing allocates nothing.
 *
 * A decode computes one token at the end of a context; a prefill chunk computes `tokens` at positions
 * [context, context + tokens).
 */
export class StepLoad {
  numDecodes = 0;
  /** Sum over decodes of the context that each attends to, its own new token included. */
  decodeContextTokens = 0;
  maxDecodeContextTokens = 0;
  numPrefills = 0;
  /** Per prefill chunk: computed tokens before it, and its own tokens. Valid in [0, numPrefills). */
  prefillContext = new Float64Array(16);
  prefillTokens = new Float64Array(16);
  numPrefillTokens = 0;
  /** Sequences whose next token is drawn in this step. */
  numSamples = 0;

  clear(): void {
    this.numDecodes = 0;
    this.decodeContextTokens = 0;
    this.maxDecodeContextTokens = 0;
    this.numPrefills = 0;
    this.numPrefillTokens = 0;
    this.numSamples = 0;
  }

  addDecode(contextTokens: number): void {
    this.numDecodes++;
    this.decodeContextTokens += contextTokens;
    if (contextTokens > this.maxDecodeContextTokens) this.maxDecodeContextTokens = contextTokens;
    this.numSamples++;
  }

  addPrefill(contextTokens: number, tokens: number, samples: boolean): void {
    const at = this.numPrefills++;
    if (at === this.prefillTokens.length) this.#enlarge();
    this.prefillContext[at] = contextTokens;
    this.prefillTokens[at] = tokens;
    this.numPrefillTokens += tokens;
    if (samples) this.numSamples++;
  }

  /** Moves every decode on by one token for each of some steps of the same plan. */
  advanceDecodes(numSteps: number): void {
    this.decodeContextTokens += numSteps * this.numDecodes;
    this.maxDecodeContextTokens += numSteps;
  }

  #enlarge(): void {
    const context = new Float64Array(this.prefillContext.length * 2);
    const tokens = new Float64Array(context.length);
    context.set(this.prefillContext);
    tokens.set(this.prefillTokens);
    this.prefillContext = context;
    this.prefillTokens = tokens;
  }
}
