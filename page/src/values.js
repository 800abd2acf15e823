/** The node's own widgets as one flat record, with undo. Nothing else holds what is asked for. */

import { app } from '../../../scripts/app.js';

export const ONE = { expression: 'none', intensity: 1, second_expression: 'none', second_weight: 0.5, action_units: '' };
const STEPS_KEPT = 100;

export class Values {
    /** `defaults`: the widgets that are meant, with what counts where a node has them not. */
    constructor(node, defaults = ONE) {
        this.node = node;
        this.defaults = defaults;
        this.listeners = [];
        this.undone = [];
        this.done = [];
        this.resting = this.read();
        this.writing = false;
        this.moving = false;
        this.used = null; // the widget that was used last, if that was outside of the editor
        for (const widget of this.widgets()) {
            const before = widget.callback;
            const values = this;
            widget.callback = function (...told) {
                const answer = before?.apply(this, told);
                if (!values.writing) values.changedOutside(widget);
                return answer;
            };
        }
    }

    widgets() {
        return (this.node.widgets ?? []).filter((widget) => widget.name in this.defaults);
    }

    has(name) {
        return this.widgets().some((widget) => widget.name === name);
    }

    /** Whether the value comes from another node by a link; what the widget holds is unused then. */
    isLinked(name) {
        return (this.node.inputs ?? []).some((input, slot) => input.widget?.name === name && this.node.isInputConnected(slot));
    }

    read() {
        const given = Object.fromEntries(this.widgets().map((widget) => [widget.name, widget.value]));
        return { ...this.defaults, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value != null)) };
    }

    /** Change some of the values; `rest()` makes what changed since the last one a step that can be undone. */
    set(changes) {
        this.moving = true;
        this.write(changes);
    }

    change(changes) {
        this.set(changes);
        this.rest();
    }

    rest() {
        if (this.keep()) recordInPage();
        this.tell();
    }

    /** Make a step of what changed, by a hand on `widget` or by the editor; false where nothing did. */
    keep(widget = null) {
        const now = this.read();
        this.moving = false;
        if (JSON.stringify(now) === JSON.stringify(this.resting)) return false;
        // the letters typed into a widget, or the ticks of one that is dragged, are one step
        if (!widget || widget !== this.used) this.done = [...this.done, this.resting].slice(-STEPS_KEPT);
        this.used = widget;
        this.undone = [];
        this.resting = now;
        return true;
    }

    undo() {
        this.step('done', 'undone');
    }

    redo() {
        this.step('undone', 'done');
    }

    step(from, to) {
        const target = this[from].pop();
        if (!target) return;
        this[to].push(this.resting);
        this.resting = target;
        this.used = null;
        this.write(target);
    }

    /**
     * Somebody used the widgets themselves, loaded a graph, or made a link. The page records that by itself; while it loads a graph, its record
     * is still that of the one before, and must not be touched.
     */
    changedOutside(widget) {
        if (this.moving) return;
        this.keep(widget);
        this.tell();
    }

    /** Start anew from what a file holds: there is nothing to undo yet. */
    loaded() {
        [this.done, this.undone] = [[], []];
        this.resting = this.read();
        this.moving = false;
        this.used = null;
        this.tell();
    }

    onChange(listener) {
        this.listeners.push(listener);
    }

    tell() {
        for (const listener of this.listeners) listener(this.read());
    }

    write(changes) {
        this.writing = true;
        try {
            for (const widget of this.widgets()) {
                if (!(widget.name in changes) || this.isLinked(widget.name) || widget.value === changes[widget.name]) continue;
                widget.value = changes[widget.name];
                widget.callback?.(widget.value, app.canvas, this.node);
            }
        } finally {
            this.writing = false;
        }
        this.node.setDirtyCanvas?.(true, true);
        this.tell();
    }
}

/** A step of the page's own undo. */
function recordInPage() {
    const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker); // the first is what newer pages call the second
}
