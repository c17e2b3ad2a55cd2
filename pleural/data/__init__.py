"""Where cases come from: one file a source, all giving ``Case``s."""
