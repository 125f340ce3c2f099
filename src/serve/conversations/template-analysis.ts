/** A node of a parsed chat template, as `@huggingface/jinja` makes them. */
export interface TemplateNode {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** Something in a template that makes a message's text depend on more than its neighbourhood. */
class NotLocal extends Error {}

/** Functions that give equal results for equal arguments. */
const PURE_FUNCTIONS: ReadonlySet<unknown> = new Set(["raise_exception", "range", "namespace"]);
const LITERALS: ReadonlySet<string> = new Set([
  "IntegerLiteral",
  "FloatLiteral",
  "StringLiteral",
  "Comment",
  "Break",
  "Continue",
]);
const NEIGHBOUR_FIELDS: ReadonlySet<unknown> = new Set(["first", "last", "previtem", "nextitem"]);

/**
 * The place, among a template's statements, of a loop over the messages in which the text of each message depends only on
 *
 * - the message itself and the ones before and after it,
 * - whether it is the first or the last, and whether its place is even or odd,
 * - the first two messages of all, and whatever is not a message.
 *
 * Null when there is no such loop, or when that is not plain to see. What stands after the loop may look at the last message too.
 */
export function findLocalLoop(statements: readonly TemplateNode[]): number | null {
  try {
    return new Analysis().loopOf(statements);
  } catch (error) {
    if (error instanceof NotLocal) return null;
    throw error;
  }
}

/** What may be read at some place of a template. */
interface Scope {
  /** Indexes with which lists of messages may be read. */
  readonly indexes: ReadonlySet<unknown>;
  /** The list that the loop runs over and its variable `loop`, where they have meaning. */
  readonly list: string | null;
  /** Names that the loop's body sets: one that an iteration has not set yet holds what an earlier one left. */
  readonly setInBody: ReadonlySet<string>;
  readonly assigned: Set<string>;
}

class Analysis {
  /** Names of lists of messages. */
  readonly #lists = new Set(["messages"]);
  /** Names whose value may be another one for the same messages: today's date. */
  readonly #volatile = new Set(["strftime_now"]);

  loopOf(statements: readonly TemplateNode[]): number {
    const scope = outside([0, 1]);
    for (const [i, statement] of statements.entries()) {
      const list = statement.type === "For" ? nameOf(statement.iterable) : null;
      if (list !== null && this.#lists.has(list)) {
        this.#loop(statement, list);
        for (const rest of statements.slice(i + 1)) this.#aside(rest, outside([0, 1, -1]));
        return i;
      }
      this.#aside(statement, scope);
    }
    throw new NotLocal();
  }

  /** What stands before or after the loop. It may give the list another name, or leave the first message out. */
  #aside(statement: TemplateNode, scope: Scope): void {
    this.#noteNames(statement);
    this.#statement(statement, scope);
  }

  #noteNames(statement: TemplateNode): void {
    for (const node of descendants(statement)) {
      const isVolatile =
        (node.type === "If" && this.#mentions(node.test, this.#volatile)) ||
        (node.type === "For" && this.#mentions(node.iterable, this.#volatile)) ||
        (node.type === "Set" && this.#mentions(node, this.#volatile));
      for (const each of isVolatile ? descendants(node) : []) {
        if (each.type !== "Set") continue;
        const names = namesIn(each.assignee);
        if (names.length === 0) throw new NotLocal();
        for (const name of names) this.#volatile.add(name);
      }
      const name = node.type === "Set" ? nameOf(node.assignee) : null;
      // A list that has been cut twice would begin beyond the messages that are always there.
      if (name === "messages") throw new NotLocal();
      if (name !== null && this.#isList(node.value)) this.#lists.add(name);
    }
  }

  /** `messages` by any name, or all but the first of them. */
  #isList(value: unknown): boolean {
    if (!isNode(value)) return false;
    const name = nameOf(value);
    if (name !== null) return this.#lists.has(name);
    const { property: slice } = value;
    return (
      value.type === "MemberExpression" &&
      nameOf(value.object) === "messages" &&
      isNode(slice) &&
      slice.type === "SliceExpression" &&
      slice.stop === undefined &&
      slice.step === undefined &&
      (isInteger(slice.start, 0) || isInteger(slice.start, 1))
    );
  }

  #mentions(node: unknown, names: ReadonlySet<string>): boolean {
    return isNode(node) && [...descendants(node)].some((each) => names.has(nameOf(each) ?? ""));
  }

  #loop(loop: TemplateNode, list: string): void {
    const variable = nameOf(loop.loopvar);
    if (variable === null) throw new NotLocal();
    const body = nodes(loop.body);
    for (const each of descendants(loop)) {
      // Leaving an iteration early would leave out the mark of its beginning, or those of all that follow.
      if (each.type === "Break" || each.type === "Continue") throw new NotLocal();
      if (this.#volatile.has(nameOf(each) ?? "")) throw new NotLocal();
    }
    const setInBody = new Set(body.flatMap(namesSetIn));
    if ([...setInBody].some((name) => this.#lists.has(name) || name === "loop")) throw new NotLocal();
    const assigned = new Set([variable]);
    this.#block(body, { indexes: new Set([0, 1]), list, setInBody, assigned });
    this.#block(nodes(loop.defaultBlock), outside([0, 1]));
  }

  #block(statements: readonly TemplateNode[], scope: Scope): void {
    for (const statement of statements) this.#statement(statement, scope);
  }

  #statement(node: TemplateNode, scope: Scope): void {
    switch (node.type) {
      case "Set":
        this.#set(node, scope);
        return;
      case "If": {
        this.#read(node.test, scope);
        const branches = [nodes(node.body), nodes(node.alternate)].map((block) => {
          const branch = { ...scope, assigned: new Set(scope.assigned) };
          this.#block(block, branch);
          return branch.assigned;
        });
        for (const name of branches[0]!) if (branches[1]!.has(name)) scope.assigned.add(name);
        return;
      }
      case "For": {
        const { iterable } = node;
        const isFiltered = isNode(iterable) && iterable.type === "SelectExpression";
        this.#read(isFiltered ? iterable.lhs : iterable, scope);
        const assigned = new Set([...scope.assigned, ...namesIn(node.loopvar)]);
        if (isFiltered) this.#read(iterable.test, { ...scope, assigned });
        // `loop` is the inner loop's now.
        this.#block(nodes(node.body), { ...scope, list: null, assigned: new Set([...assigned, "loop"]) });
        this.#block(nodes(node.defaultBlock), { ...scope, assigned: new Set(scope.assigned) });
        return;
      }
      default:
        this.#read(node, scope);
    }
  }

  #set(node: TemplateNode, scope: Scope): void {
    const { assignee, value } = node;
    const names = namesIn(assignee);
    if (names.length === 0) {
      // A field of a namespace: what an iteration writes there the next one could read.
      if (scope.setInBody.size > 0 || scope.list !== null || scope.assigned.has("loop")) throw new NotLocal();
    }
    if (isNode(value)) {
      if (scope.list !== null || !this.#isList(value)) this.#read(value, scope);
    } else this.#block(nodes(node.body), scope);
    for (const name of names) scope.assigned.add(name);
  }

  #read(node: unknown, scope: Scope): void {
    if (node === undefined || node === null) return;
    if (!isNode(node)) throw new NotLocal();
    if (LITERALS.has(node.type) || this.#isPlaceTest(node, scope)) return;
    switch (node.type) {
      case "Identifier":
        this.#readName(String(node.value), scope);
        return;
      case "MemberExpression":
        this.#readMember(node, scope);
        return;
      case "CallExpression":
        if (nameOf(node.callee) === null) this.#read(node.callee, scope);
        else if (!PURE_FUNCTIONS.has(nameOf(node.callee))) throw new NotLocal();
        this.#readAll(node.args, scope);
        return;
      case "FilterExpression":
        this.#read(node.operand, scope);
        if (isNode(node.filter) && node.filter.type === "CallExpression")
          this.#readAll(node.filter.args, scope);
        return;
      case "TestExpression":
        this.#read(node.operand, scope);
        return;
      case "BinaryExpression":
        this.#readAll([node.left, node.right], scope);
        return;
      case "UnaryExpression":
      case "SpreadExpression":
      case "KeywordSpreadExpression":
        this.#read(node.argument, scope);
        return;
      case "SelectExpression":
        this.#readAll([node.lhs, node.test], scope);
        return;
      case "Ternary":
        this.#readAll([node.condition, node.trueExpr, node.falseExpr], scope);
        return;
      case "SliceExpression":
        this.#readAll([node.start, node.stop, node.step], scope);
        return;
      case "KeywordArgumentExpression":
        this.#read(node.value, scope);
        return;
      case "ArrayLiteral":
      case "TupleLiteral":
        this.#readAll(node.value, scope);
        return;
      case "ObjectLiteral":
        this.#readAll(node.value instanceof Map ? [...node.value].flat() : null, scope);
        return;
      default:
        throw new NotLocal();
    }
  }

  #readAll(values: unknown, scope: Scope): void {
    if (!Array.isArray(values)) throw new NotLocal();
    for (const value of values) this.#read(value, scope);
  }

  #readName(name: string, scope: Scope): void {
    if (this.#lists.has(name)) throw new NotLocal();
    if (name === "loop" && scope.list !== null) throw new NotLocal();
    if (scope.setInBody.has(name) && !scope.assigned.has(name)) throw new NotLocal();
  }

  #readMember(node: TemplateNode, scope: Scope): void {
    const owner = nameOf(node.object);
    const { property } = node;
    if (owner !== null && this.#lists.has(owner)) {
      const isFixed =
        isNode(property) && property.type === "IntegerLiteral" && scope.indexes.has(property.value);
      if (!isFixed && !(owner === scope.list && isNeighbour(property))) throw new NotLocal();
      return;
    }
    if (owner === "loop" && scope.list !== null) {
      if (node.computed === true || !NEIGHBOUR_FIELDS.has(nameOf(property))) throw new NotLocal();
      return;
    }
    this.#read(node.object, scope);
    if (node.computed === true) this.#read(property, scope);
  }

  /** Whether a place is even or odd, or the first: `loop.index0 % 2`, `loop.index0 == 0`, `loop.index > 1` and the like. */
  #isPlaceTest(node: TemplateNode, scope: Scope): boolean {
    if (scope.list === null || node.type !== "BinaryExpression") return false;
    const first = isLoopField(node.left, "index0") ? 0 : isLoopField(node.left, "index") ? 1 : null;
    if (first === null) return false;
    const operator = operatorOf(node);
    if (operator === "%") return isInteger(node.right, 2);
    return ["==", "!=", "<", "<=", ">", ">="].includes(String(operator)) && isInteger(node.right, first);
  }
}

/** Outside of the loop over messages. */
function outside(indexes: readonly number[]): Scope {
  return { indexes: new Set(indexes), list: null, setInBody: new Set(), assigned: new Set() };
}

function isNode(value: unknown): value is TemplateNode {
  return typeof value === "object" && value !== null && typeof Reflect.get(value, "type") === "string";
}

function nodes(value: unknown): TemplateNode[] {
  if (!Array.isArray(value) || !value.every(isNode)) throw new NotLocal();
  return value;
}

function operatorOf(node: TemplateNode): unknown {
  return Reflect.get(Object(node.operator), "value");
}

function nameOf(value: unknown): string | null {
  return isNode(value) && value.type === "Identifier" ? String(value.value) : null;
}

function isInteger(value: unknown, wanted: number): boolean {
  return isNode(value) && value.type === "IntegerLiteral" && value.value === wanted;
}

function isLoopField(value: unknown, field: string): boolean {
  return (
    isNode(value) &&
    value.type === "MemberExpression" &&
    value.computed !== true &&
    nameOf(value.object) === "loop" &&
    nameOf(value.property) === field
  );
}

/** `loop.index0`, one more or one less. */
function isNeighbour(index: unknown): boolean {
  if (isLoopField(index, "index0")) return true;
  if (!isNode(index) || index.type !== "BinaryExpression") return false;
  const operator = operatorOf(index);
  return (
    (operator === "+" || operator === "-") && isLoopField(index.left, "index0") && isInteger(index.right, 1)
  );
}

/** Names on the left of an assignment or of `in`; none for a field of something. */
function namesIn(target: unknown): string[] {
  const name = nameOf(target);
  if (name !== null) return [name];
  if (!isNode(target) || target.type !== "TupleLiteral") return [];
  return nodes(target.value).map((each) => nameOf(each) ?? "");
}

/** Names that a statement sets in the scope that it stands in: an inner loop has a scope of its own. */
function namesSetIn(node: TemplateNode): string[] {
  if (node.type === "Set") return [...namesIn(node.assignee), ...nodes(node.body).flatMap(namesSetIn)];
  if (node.type === "If") return [...nodes(node.body), ...nodes(node.alternate)].flatMap(namesSetIn);
  return [];
}

/** A node and all below it. */
function* descendants(node: TemplateNode): Generator<TemplateNode> {
  yield node;
  for (const value of Object.values(node)) {
    const children: unknown[] =
      value instanceof Map ? [...value].flat() : Array.isArray(value) ? value : [value];
    for (const child of children) if (isNode(child)) yield* descendants(child);
  }
}
