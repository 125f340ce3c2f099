/** Text as it may stand in HTML, between tags or in a quoted attribute. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** A cell of a table: text, or a number that is set to the right. */
export type Cell = string | { readonly number: string } | { readonly html: string };

/** A table whose first column heads its rows. Cells are escaped, but for those that are HTML already. */
export function htmlTable(
  caption: string,
  head: readonly string[],
  rows: readonly (readonly Cell[])[],
): string {
  const isNumber = (column: number): boolean =>
    rows.some((row) => typeof row[column] === "object" && "number" in row[column]);
  const header = head
    .map((cell, column) => `<th scope="col"${isNumber(column) ? ' class="n"' : ""}>${escapeHtml(cell)}</th>`)
    .join("");
  const body = rows.map((row) => `<tr>${row.map(htmlCell).join("")}</tr>`).join("\n");
  return `<div class="scroll"><table><caption>${escapeHtml(caption)}</caption><thead><tr>${header}</tr></thead><tbody>
${body}
</tbody></table></div>`;
}

function htmlCell(cell: Cell, index: number): string {
  if (typeof cell === "string") {
    return index === 0 ? `<th scope="row">${escapeHtml(cell)}</th>` : `<td>${escapeHtml(cell)}</td>`;
  }
  if ("html" in cell) return `<td>${cell.html}</td>`;
  return `<td class="n">${escapeHtml(cell.number)}</td>`;
}
