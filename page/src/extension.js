/** Puts the expression editor on every FaceExpr node that asks for an expression, and what nodes say and report on them. */

import { app } from '../../../scripts/app.js';
import { chain, element } from './dom.js';
import { loadHead } from './head.js';
import { hideIdle } from './idle.js';
import { LIST, makeListEditor } from './list_editor.js';
import { loadNodeWords, translateDefinition, translateSlots } from './node_words.js';
import { SETTING } from './presets.js';
import { showResults, shrinkAfterRuns, watchRuns } from './previews.js';
import { showReports, showReportsAgain } from './reports.js';
import { watchWhatIsSaid } from './said.js';
import style from './style.css';
import { ONE, Values } from './values.js';
import { makeEditor } from './widget.js';
import { say } from './words.js';

const WIDGET = 'expression_editor';
const OPEN = 'faceexpr_editor'; // the node's property: whether its editor is open
const CLOSED = 30; // height, as those below
const ONE_OPEN = { wide: 372, narrow: 640 };
const LIST_OPEN = { wide: 412, narrow: 690 };
const WIDE = 520; // pixels; below, the panels stand under the head
const ROOM = 580; // width of a new node

const isOurs = (name) => name.startsWith('FaceExpr');
const nameOf = (node) => node.constructor.comfyClass ?? node.comfyClass ?? '';

/** What a node asks for: one expression, a list of them, or none. */
function asked(node) {
    const has = (wanted) => node.widgets?.some((widget) => widget.name === wanted);
    // where there is no strength to set, the list of names is quick enough: the editor waits until it is asked for
    if (has('expression')) return { defaults: ONE, make: makeEditor, heights: ONE_OPEN, opened: has('intensity') };
    return has('expressions') ? { defaults: LIST, make: makeListEditor, heights: LIST_OPEN, opened: true } : null;
}

function addEditor(node, { defaults, make, heights, opened: startsOpen }) {
    const values = new Values(node, defaults);
    const body = element('div', {});
    const toggle = element('button', { class: 'fx-toggle', onclick: () => open(node.properties[OPEN] !== true) });
    const root = element('div', { class: 'fx-editor', role: 'group', 'aria-label': say('expression editor') }, toggle, body);
    let editor = null;
    if (startsOpen) node.setSize([Math.max(node.size[0], ROOM), node.size[1]]);

    const height = () => (node.properties[OPEN] !== true ? CLOSED : node.size[0] - 20 >= WIDE ? heights.wide : heights.narrow);
    const widget = node.addDOMWidget(WIDGET, 'FACEEXPR_EDITOR', root, {
        serialize: false,
        hideOnZoom: false,
        margin: 6,
        getMinHeight: height,
        getMaxHeight: height,
    });
    widget.serialize = false;

    async function fill() {
        if (editor) return;
        body.textContent = say('The head is loading.');
        try {
            const loaded = await loadHead();
            editor ??= make(values, loaded);
            widget.editor = editor;
            body.replaceChildren(editor.root);
        } catch (error) {
            body.textContent = say('The editor could not be loaded ({0}). The widgets above work without it.', error.message);
        }
    }

    function show() {
        const opened = node.properties[OPEN] === true;
        toggle.textContent = `${opened ? '▾' : '▸'} ${say('Set it on a face')}`;
        toggle.setAttribute('aria-expanded', opened);
        body.hidden = !opened;
        if (opened) fill();
    }

    function open(opened) {
        const before = height();
        node.properties[OPEN] = opened;
        if (opened) node.setSize([Math.max(node.size[0], ROOM), node.size[1]]);
        node.setSize([node.size[0], Math.max(node.size[1] + height() - before, node.computeSize()[1])]);
        show();
        node.setDirtyCanvas(true, true);
    }

    chain(node, 'onConfigure', (file) => {
        node.properties[OPEN] = file.properties?.[OPEN] === true;
        values.loaded();
        show();
    });
    chain(node, 'onConnectionsChange', () => values.changedOutside());
    // A node just added has its editor open, or as `asked` says; a node of a file has it as the file says, and so keeps its size where the file is older.
    node.properties[OPEN] = startsOpen;
    node.setSize([node.size[0], node.computeSize()[1]]);
    queueMicrotask(show);
    requestAnimationFrame(() => settle(node, root));
}

/**
 * Where a node takes the number of one that is gone (another workflow, an undo), Nodes 2.0 goes on showing the old node's element, whose
 * controls would set nothing. Put this node's in its place.
 */
function settle(node, root, frames = 120) {
    if (root.isConnected || !frames) return;
    if (isShown(node)) document.querySelector(`[data-node-id="${node.id}"] .fx-editor`)?.replaceWith(root);
    requestAnimationFrame(() => settle(node, root, frames - 1));
}

/** Whether it is the one that is on the screen under its number: a node in a subgraph may have the number of one outside. */
function isShown(node) {
    return app.canvas.graph?.getNodeById(node.id) === node;
}

app.registerExtension({
    name: 'FaceExpr.ExpressionEditor',
    settings: [{ id: SETTING, name: 'FaceExpr: expressions of your own', type: 'hidden', defaultValue: [] }],
    setup() {
        document.head.append(element('style', {}, style));
        watchWhatIsSaid();
        watchRuns((node) => isOurs(nameOf(node)));
    },
    init: loadNodeWords,
    onNodeOutputsUpdated: (outputs) => showReportsAgain(outputs, (node) => isOurs(nameOf(node))),
    beforeRegisterNodeDef(_, definition) {
        if (isOurs(definition.name)) translateDefinition(definition);
    },
    nodeCreated(node) {
        if (!isOurs(nameOf(node))) return;
        translateSlots(node, nameOf(node));
        hideIdle(node, nameOf(node));
        shrinkAfterRuns(node);
        showResults(node);
        showReports(node);
        const editor = asked(node);
        if (editor) addEditor(node, editor);
    },
});
