/** What a node reports of its run can be read on it. ComfyUI's page shows such a text for nodes of its own alone, by their names. */

import { app } from '../../../scripts/app.js';
import { chain, element } from './dom.js';
import { takeSaidAway } from './said.js';
import { SCROLLS } from './widget.js';
import { say } from './words.js';

const WIDGET = 'faceexpr_report';
const THEIRS = 'preview_text'; // ComfyUI's own for what a node reports, should a page give it to ours
const LEAST = 68; // height; style.css has what is left of it inside

/** Have the node show what it reports. */
export function showReports(node) {
    chain(node, 'onExecuted', (output) => show(node, output));
}

/** The same of outputs that the page brings back: of another tab's graph, or from its history. By the nodes' numbers, or `graph:number`. */
export function showReportsAgain(outputs, isOurs) {
    for (const [place, output] of Object.entries(outputs)) {
        const [number, graph] = place.split(':').reverse();
        const node = (graph ? app.graph.subgraphs?.get(graph) : app.graph)?.getNodeById(number);
        if (node && isOurs(node)) show(node, output);
    }
}

function show(node, output) {
    const text = [output?.text ?? []].flat().join('\n');
    if (node.widgets?.some((widget) => widget.name === THEIRS)) return;
    const known = node.widgets?.find((widget) => widget.name === WIDGET);
    if (text) takeSaidAway(node); // what it was at is over
    if (known) known.element.value = text;
    else if (text) add(node, text);
}

function add(node, text) {
    const area = element('textarea', { class: 'fx-report', readonly: true, 'aria-label': say('report'), ...SCROLLS });
    area.addEventListener('wheel', (event) => event.stopPropagation());
    area.value = text;
    const widget = node.addDOMWidget(WIDGET, 'FACEEXPR_REPORT', area, {
        serialize: false,
        hideOnZoom: false,
        margin: 6,
        getValue: () => area.value,
        getMinHeight: () => LEAST,
    });
    widget.serialize = false;
    node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    node.setDirtyCanvas(true, true);
}
