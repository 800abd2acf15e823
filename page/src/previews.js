/**
 * On the canvas ComfyUI makes a node taller for the pictures that it shows while it works, and leaves it so, over whatever stands below. Our
 * nodes take theirs away when the run is over, and have their height again; nodes that have a picture as their result keep it.
 */

import { app } from '../../../scripts/app.js';
import { api } from '../../../scripts/api.js';
import { chain } from './dom.js';

const PREVIEW = '$$canvas-image-preview'; // ComfyUI's widget for pictures
const heights = new Map(); // of our nodes that ran last, before they did
let over = true;

/** Note how tall the nodes for which `isOurs(node)` are before a run, and when it is over. */
export function watchRuns(isOurs) {
    api.addEventListener('execution_start', () => {
        const before = [...heights];
        heights.clear(); // their users may have made them another size
        for (const [node, height] of before) shrink(node, height); // one that was not drawn since
    });
    api.addEventListener('executing', ({ detail }) => {
        const node = runningNode(detail);
        if (!node || !isOurs(node)) return;
        over = false;
        if (!heights.has(node)) heights.set(node, node.size[1]);
    });
    for (const name of ['execution_success', 'execution_error', 'execution_interrupted']) {
        api.addEventListener(name, () => {
            over = true;
            app.canvas?.setDirty(true, true);
        });
    }
}

/** The node of an execution's id, `12:3` being number 3 in the subgraph that node 12 stands for. */
function runningNode(id) {
    let node;
    for (const number of `${id}`.split(':')) node = (node ? node.subgraph : (app.rootGraph ?? app.graph))?.getNodeById(number);
    return node;
}

/** How ComfyUI's page calls a node in what it knows of outputs and previews. */
function nameOf(node) {
    return node.graph.isRootGraph ? `${node.id}` : `${node.graph.id}:${node.id}`;
}

/** ComfyUI's canvas goes on showing the last picture of a node's work where the node has one as its result. */
export function showResults(node) {
    chain(node, 'onExecuted', (output) => {
        if (!output?.images?.length) return;
        delete app.nodePreviewImages?.[nameOf(node)];
        node.setDirtyCanvas(true, true);
    });
}

/** ComfyUI puts the picture into the node when it is drawn, which may be after the run. */
export function shrinkAfterRuns(node) {
    chain(node, 'onDrawBackground', () => {
        if (over && heights.has(node)) queueMicrotask(() => shrink(node, heights.get(node)));
    });
}

function shrink(node, height) {
    if (!node.graph) return; // deleted meanwhile
    const at = node.widgets?.findIndex((widget) => widget.name === PREVIEW) ?? -1;
    if (at < 0 || app.nodeOutputs?.[nameOf(node)]?.images?.length) return;
    node.widgets.splice(at, 1)[0].onRemove?.();
    node.imgs = undefined;
    node.setSize([node.size[0], Math.max(height, node.computeSize()[1])]);
    heights.delete(node);
    node.setDirtyCanvas(true, true);
}
