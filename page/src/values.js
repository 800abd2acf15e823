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
        this.resting = this.seen = this.read();
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

    /** What comes by a link, by the names that the node shows. */
    linked() {
        return this.widgets().filter(({ name }) => this.isLinked(name)).map(({ label, name }) => label ?? name);
    }

    /** The widgets that such changes set: what comes by a link is left alone. */
    settable(changes) {
        return this.widgets().filter(({ name }) => name in changes && !this.isLinked(name));
    }

    read() {
        const given = Object.fromEntries(this.widgets().map((widget) => [widget.name, widget.value]));
        return { ...this.defaults, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value != null)) };
    }

    /** Change some of the values; `rest()` makes what changed since the last one a step that can be undone. */
    set(changes) {
        this.moving = true;
        this.write(changes);
        this.tell();
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
        if (JSON.stringify(now) === JSON.stringify(this.seen)) return false;
        // the letters typed into a widget, or the ticks of one that is dragged, are one step
        if (!widget || widget !== this.used) this.done = [...this.done, this.resting].slice(-STEPS_KEPT);
        this.used = widget;
        this.undone = [];
        this.resting = this.seen = now;
        return true;
    }

    undo() {
        this.step('done', 'undone');
    }

    redo() {
        this.step('undone', 'done');
    }

    canUndo() {
        return this.nearest('done') >= 0;
    }

    canRedo() {
        return this.nearest('undone') >= 0;
    }

    /** The next state that differs in something that can be set: where links hold all that a step changed, it is passed over. */
    nearest(from) {
        return this[from].findLastIndex((state) => this.settable(state).some(({ name, value }) => value !== state[name]));
    }

    /** The states stay as they were, whatever links leave of them: once a link is gone, the way back and forth is the old one. */
    step(from, to) {
        const at = this.nearest(from);
        if (at < 0) return;
        const [target, ...passed] = this[from].splice(at);
        this[to].push(this.resting, ...passed.reverse());
        this.used = null;
        this.write(target);
        this.resting = target;
        this.seen = this.read();
        this.tell();
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
        this.resting = this.seen = this.read();
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
            for (const widget of this.settable(changes)) {
                if (widget.value === changes[widget.name]) continue;
                widget.value = changes[widget.name];
                widget.callback?.(widget.value, app.canvas, this.node);
            }
        } finally {
            this.writing = false;
        }
        this.node.setDirtyCanvas?.(true, true);
    }
}

/** A step of the page's own undo. */
function recordInPage() {
    const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker); // the first is what newer pages call the second
}
