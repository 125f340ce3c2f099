import type { KvEventLog } from "./kv-event-log.ts";
import type { KvTiers } from "./tiers/kv-tiers.ts";

export interface BlockManagerOptions {
  readonly numBlocks: number;
  readonly blockSizeTokens: number;
  /** How many sequences the engine can tell apart, retained ones included. */
  readonly numSlots: number;
  /** Part of every block hash. */
  readonly modelId: string;
  /**
   * The most blocks that are kept for reuse while no sequence uses them; 0 turns prefix caching off. By default all. An engine
   * that walks over every occupied cell in each step, as libllama does, pays for each one kept.
   */
  readonly maxCachedBlocks?: number;
  /**
   * Positions that a sequence takes room for beyond those that it computes, as engines do that write the token being drawn ahead of its
   * step. Default 0.
   */
  readonly lookaheadTokens?: number;
  /** Lower tiers, to which KV goes when its sequence gives it up. */
  readonly tiers?: KvTiers;
  /** Is told which prefixes can be found. Without it nothing is kept or reported. */
  readonly kvEvents?: KvEventLog | undefined;
}
