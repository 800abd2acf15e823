/**
 * What our nodes say while they work, and our fusion on the node that samples: ComfyUI's page shows it in a widget that it never takes away,
 * and saves with the graph, paths of files and all. Here it goes when the node runs again (one that ComfyUI has still does not, and what was
 * said of it holds), and into no graph. What other packs say in such a widget is left as it is.
 */

import { app } from '../../../scripts/app.js';
import { api } from '../../../scripts/api.js';

const WIDGET = '$$node-text-preview';
const SAID = 'faceexpr_said'; // nodes/host/progress.py: which text that comes next is ours
const ours = new Map(); // widgets with a text of ours, and what is to be known of them
const LEAST = 58; // height, as the page has it for two rows: what is said last would be out of sight below what is kept
const MOST = 220; // the page's own limit, with what is around it; above, it scrolls
const [ROW, LETTER, AROUND] = [16, 6, { x: 52, y: 36 }];
let coming = null;

export function watchWhatIsSaid() {
    api.addEventListener(SAID, ({ detail }) => {
        coming = { ...detail, height: onScreen(detail.node)?.size[1] };
    });
    api.addEventListener('progress_text', ({ detail: { nodeId, text } }) => {
        const said = coming?.node === nodeId && coming.text === text ? coming : null;
        if (said) coming = null;
        queueMicrotask(() => note(nodeId, text, said)); // when the page has shown it
    });
    api.addEventListener('executing', ({ detail }) => {
        for (const [widget, known] of ours) {
            if (known.by !== `${detail}`) continue;
            ours.delete(widget);
            if (known.node.graph && known.node.widgets?.includes(widget)) shrinkWithout(known);
        }
    });
}

/** Take the text away that stands on a node. */
export function takeSaidAway(node) {
    const at = node.widgets?.findIndex((widget) => widget.name === WIDGET) ?? -1;
    if (at >= 0) node.widgets.splice(at, 1)[0].onRemove?.();
}

function note(id, text, said) {
    const node = onScreen(id);
    const widget = node?.widgets?.find((one) => one.name === WIDGET);
    if (widget?.value !== text) return;
    const known = ours.get(widget);
    if (said) {
        const before = { height: said.height, grown: 0, serialize: widget.serialize, getMinHeight: widget.options.getMinHeight };
        widget.serialize = false;
        widget.value = text.replaceAll('\n', '  \n'); // Nodes 2.0 reads it as Markdown, which makes one line of two otherwise
        widget.options.getMinHeight = () => heightOf(text, node.size[0]);
        const now = { ...before, ...known, node, by: id };
        ours.set(widget, { ...now, grown: Math.max(now.grown, node.computeSize()[1]) });
    } else if (known) {
        ours.delete(widget);
        widget.serialize = known.serialize;
        widget.options.getMinHeight = known.getMinHeight;
    }
}

function heightOf(text, width) {
    const letters = Math.max((width - AROUND.x) / LETTER, 1);
    const rows = text.split('\n').reduce((sum, line) => sum + Math.ceil(line.length / letters), 0);
    return Math.min(Math.max(rows * ROW + AROUND.y, LEAST), MOST);
}

/** Where the page shows what the node of an execution's id says: by the last number, in the graph that is open. */
function onScreen(id) {
    return app.canvas?.graph?.getNodeById(`${id}`.split(':').at(-1));
}

/** The canvas has made the node taller for the text; one that its user made taller still stays so. */
function shrinkWithout({ node, height, grown }) {
    const asItGrew = node.size[1] <= Math.max(grown, node.computeSize()[1]) + 1;
    takeSaidAway(node);
    if (asItGrew) node.setSize([node.size[0], Math.max(height ?? 0, node.computeSize()[1])]);
    node.setDirtyCanvas(true, true);
}
