"""Episodes: sampling on the device, turns with tools in Wasm, and their collation into batches."""
