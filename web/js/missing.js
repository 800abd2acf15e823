// Says in the page what FaceExpr's Python side does not find, and what to type (nodes/host/missing.py).

import { api } from '../../../scripts/api.js';
import { app } from '../../../scripts/app.js';

app.registerExtension({
    name: 'FaceExpr.Missing',
    async setup() {
        const answer = await api.fetchApi('/faceexpr/missing').catch(() => null); // the page says itself that the server is gone
        const sentences = answer?.ok ? await answer.json() : [];
        for (const detail of sentences) {
            app.extensionManager.toast.add({ severity: 'warn', summary: 'FaceExpr', detail });
        }
    },
});
