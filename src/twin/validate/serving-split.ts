import { halfOf } from "./split.ts";

/**
 * Which experiments are fitted on (0) and which are held out (1): within each group of one model on one device, they take turns in
 * the order of their names, and a hash of the group says which half begins. So each half has nearly every group, and a group with
 * a single experiment falls to either half.
 */
export function halvesOf<Item>(
  items: readonly Item[],
  describe: (item: Item) => { readonly group: string; readonly name: string },
): Map<Item, 0 | 1> {
  const groups = new Map<string, Item[]>();
  for (const item of items) {
    const { group } = describe(item);
    const members = groups.get(group);
    if (members === undefined) groups.set(group, [item]);
    else members.push(item);
  }
  const halves = new Map<Item, 0 | 1>();
  for (const [group, members] of groups) {
    members.sort((a, b) => (describe(a).name < describe(b).name ? -1 : 1));
    members.forEach((item, index) => {
      halves.set(item, ((halfOf(group) + index) % 2) as 0 | 1);
    });
  }
  return halves;
}
