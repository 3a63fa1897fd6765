import { defineConfig } from "vite";

// Built for Envoy, which answers with these files by itself: hashed names in /assets are kept for
// ever, the rest is asked for anew. No inline script or style: the page's CSP allows none.
export default defineConfig({
  build: {
    target: "es2022",
    outDir: "dist",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
});
