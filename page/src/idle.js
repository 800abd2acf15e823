/**
 * Widgets that count for nothing beside the node's other inputs are not shown: a photo's settings without a photo, a fusion's strength without
 * a fusion. They keep their values, and are saved and queued as ever; without this script all are shown. One whose value would stop the run
 * without that input is shown, so that it can be set back.
 *
 * ComfyUI's own dynamic inputs (io.DynamicCombo, io.Autogrow) would not do: 0.3.75 lacks them, and they call an input `choice.input`, so that
 * saved graphs would lose its value.
 */

import { chain } from './dom.js';

const CONTEXT_SITE = 'cross_attention_difference';
const RECORDED = ['window_low', 'window_high', 'tokens', 'levels'];

const wordsAlone = ({ is, linked }) => is('site', linked('photo') ? [CONTEXT_SITE] : ['default', CONTEXT_SITE]);
const noFusion = ({ linked }) => !linked('features') && !linked('base_model');

/** Node -> widget -> when it counts for nothing. `linked(input)`; `is(widget, values)`: its value is known to be one of these. */
export const IDLE = {
    FaceExprExtractExpressionFeatures: {
        photo_neutral: ({ linked }) => !linked('photo') || linked('neutral_photo'),
        ...Object.fromEntries(RECORDED.map((name) => [name, wordsAlone])),
    },
    FaceExprSampler: {
        expression_scale: ({ linked, is }) => !linked('neutral') && is('expression_scale', [1]),
        fusion_strength: noFusion,
        fusion_text: (inputs) => noFusion(inputs) || !inputs.linked('neutral'),
        refine_below: ({ linked, is }) => !linked('vae') && is('refine_below', [0]),
        refine_denoise: ({ linked, is }) => !linked('vae') || is('refine_below', [0]),
    },
    FaceExprExpressionSheet: { fusion_strength: ({ linked }) => !linked('base_model') },
    FaceExprLoadSubjectImages: { padding: ({ is }) => is('framing', ['whole picture']) },
};

/** Have the node show only what counts, now and whenever a wire or one of its widgets changes. */
export function hideIdle(node, name) {
    const rules = IDLE[name];
    if (!rules) return;
    const update = (isNew = false) => show(node, rules, isNew);
    for (const widget of node.widgets ?? []) chain(widget, 'callback', () => update());
    chain(node, 'onConfigure', () => update());
    chain(node, 'onConnectionsChange', () => update());
    update(true);
}

function show(node, rules, isNew) {
    const slot = (name) => (node.inputs ?? []).findIndex((input) => input.name === name);
    const linked = (name) => slot(name) >= 0 && node.isInputConnected(slot(name));
    const find = (name) => node.widgets.find((widget) => widget.name === name);
    const is = (name, values) => !linked(name) && values.includes(find(name)?.value);
    const isIdle = (name) => !linked(name) && rules[name]({ linked, is });
    const changed = Object.keys(rules).filter((name) => find(name) && Boolean(find(name).hidden) !== isIdle(name));
    if (!changed.length) return;
    const tight = isNew || node.size[1] <= node.computeSize()[1];
    for (const widget of changed.map(find)) hide(widget, !widget.hidden);
    // a node that was as small as it could be is so again; another one keeps its size where that is enough
    const height = node.computeSize()[1];
    node.setSize([node.size[0], tight ? height : Math.max(node.size[1], height)]);
    redraw(node);
}

function hide(widget, hidden) {
    widget.hidden = hidden;
    (widget.options ??= {}).hidden = hidden; // where Nodes 2.0 looks
    // the classic page 1.32 leaves room for hidden ones too: 4 pixels more than they say
    if (hidden) widget.computeSize = () => [0, -4];
    else delete widget.computeSize;
}

function redraw(node) {
    node.setDirtyCanvas?.(true, true);
    if (!LiteGraph.vueNodesMode || !node.graph) return;
    // Nodes 2.0 reads a node's widgets when their list changes. Pages that do not watch its inputs (1.32) have lost sight of both once a wire or
    // a value changed, and read them when the node is added.
    const watches = (list) => Object.getOwnPropertyDescriptor(node, list)?.get;
    if (watches('inputs')) {
        const all = [...node.widgets];
        node.widgets = [];
        node.widgets = all;
    } else {
        node.graph.onNodeAdded?.(node);
    }
}
