import type { RequestId, WorkerId } from "../../request.ts";
import type {
  FleetEvent,
  PlacementDecision,
  PlacementPolicy,
  PlacementQuery,
  WorkerView,
} from "../placement.ts";
import { leastOf, pendingTokens } from "./select.ts";

export interface MixedPoolOptions {
  /** A prefill queue that would grow beyond this many pending tokens is long: 8,192 in the paper's simulator. */
  readonly maxPendingTokens: number;
  /**
   * Whether the decodes of a request wait in its worker's queue while that worker has its prompt to compute, as in the paper's simulator. Default
   * false: a queue is what waits for a step.
   */
  readonly countsLocalDecodes?: boolean;
  /** KV up to which requests are placed on a worker, by the bound of each; default: what fits it. */
  readonly kvTokens?: number;
}

/**
 * Cluster-level scheduling of Splitwise (Patel et al., ISCA 2024, section IV-A): a pool of prompt machines, a pool of token
 * machines, and a mixed pool. Each request gets a machine of both kinds by join-the-shortest-queue. When the prompt queues are
 * long, a token machine joins the mixed pool and takes prompts as well; when the token machines' memory is full, a prompt
 * machine joins it and takes decodes. A mixed machine goes back to its own pool once it has run out of work.
 *
 * Pools are lists, because equals are served in order of joining. Roles say which pool a worker belongs to.
 */
export function createMixedPoolPlacement(options: MixedPoolOptions): PlacementPolicy {
  return new MixedPool(options);
}

class MixedPool implements PlacementPolicy {
  readonly name = "mixed-pool";
  readonly #options: MixedPoolOptions;
  #prompt: WorkerId[] = [];
  #token: WorkerId[] = [];
  /** With the number of idle spells at which each joined. */
  readonly #mixed = new Map<WorkerId, number>();

  /** Requests whose prompt is computed where they decode, until it has been. */
  readonly #localPrompts = new Map<RequestId, WorkerId>();

  constructor(options: MixedPoolOptions) {
    this.#options = options;
  }

  observe(event: FleetEvent): void {
    if (event.kind === "prefilled" || event.kind === "over") this.#localPrompts.delete(event.requestId);
  }

  place(query: PlacementQuery, workers: readonly WorkerView[]): PlacementDecision | null {
    const decision = this.#choose(query, workers);
    if (decision !== null && decision.prefillWorker === decision.decodeWorker)
      this.#localPrompts.set(query.requestId, decision.decodeWorker);
    return decision;
  }

  #choose(query: PlacementQuery, workers: readonly WorkerView[]): PlacementDecision | null {
    const views = new Map(workers.map((worker) => [worker.id, worker]));
    this.#follow(views);
    const viewsOf = (ids: Iterable<WorkerId>) => [...ids].map((id) => views.get(id)!);
    const [prompt, mixed, token] = [this.#prompt, this.#mixed.keys(), this.#token].map(viewsOf);
    let prefill = this.#promptWorker(query, prompt!) ?? this.#promptWorker(query, mixed!);
    let decode = this.#tokenWorker(query, token!) ?? this.#tokenWorker(query, mixed!);
    if (prefill === null) {
      prefill = leastOf(token!, pendingTokens);
      if (prefill !== null) this.#mix(prefill);
    }
    if (decode === null) {
      decode = leastOf(prompt!, (worker) => worker.boundKvTokens);
      if (decode !== null) this.#mix(decode);
    }
    if (prefill === null || decode === null) {
      // Nobody is left to join the mixed pool: all machines serve both.
      const all = [...viewsOf(this.#prompt), ...viewsOf(this.#mixed.keys()), ...viewsOf(this.#token)];
      prefill = decode = leastOf(all, pendingTokens);
      if (prefill === null || decode === null) return null;
      return { prefillWorker: prefill.id, decodeWorker: decode.id, reason: "overload" };
    }
    const reason = prefill === decode ? "overload" : "split";
    return { prefillWorker: prefill.id, decodeWorker: decode.id, reason };
  }

  #promptWorker(query: PlacementQuery, pool: readonly WorkerView[]): WorkerView | null {
    const worker = leastOf(pool, pendingTokens);
    if (worker === null || !this.#hasQueue(worker)) return worker;
    return pendingTokens(worker) + query.numPromptTokens > this.#options.maxPendingTokens ? null : worker;
  }

  #hasQueue({ id, numQueued }: WorkerView): boolean {
    if (numQueued > 0) return true;
    return this.#options.countsLocalDecodes === true && [...this.#localPrompts.values()].includes(id);
  }

  #tokenWorker(query: PlacementQuery, pool: readonly WorkerView[]): WorkerView | null {
    const worker = leastOf(pool, ({ boundKvTokens }) => boundKvTokens);
    if (worker === null) return null;
    const kvTokens = worker.boundKvTokens + query.numPromptTokens + query.maxOutputTokens;
    return kvTokens >= (this.#options.kvTokens ?? worker.kvTokensTotal) ? null : worker;
  }

  #mix(worker: WorkerView): void {
    this.#prompt = this.#prompt.filter((id) => id !== worker.id);
    this.#token = this.#token.filter((id) => id !== worker.id);
    this.#mixed.set(worker.id, worker.numIdleSpells);
  }

  /** Takes in who has come, gone, or run out of work. */
  #follow(views: ReadonlyMap<WorkerId, WorkerView>): void {
    for (const [id, numIdleSpells] of this.#mixed) {
      const view = views.get(id);
      if (view !== undefined && view.numIdleSpells === numIdleSpells) continue;
      this.#mixed.delete(id);
      if (view !== undefined) this.#poolOf(view).push(id);
    }
    this.#prompt = this.#prompt.filter((id) => views.has(id));
    this.#token = this.#token.filter((id) => views.has(id));
    if (this.#prompt.length + this.#token.length + this.#mixed.size === views.size) return;
    const known = new Set([...this.#prompt, ...this.#token, ...this.#mixed.keys()]);
    for (const view of views.values()) if (!known.has(view.id)) this.#poolOf(view).push(view.id);
  }

  #poolOf(view: WorkerView): WorkerId[] {
    return view.role === "prefill" ? this.#prompt : this.#token;
  }
}
