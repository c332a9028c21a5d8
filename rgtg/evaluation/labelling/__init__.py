"""Labels of pairs by reward models: a judge's verdicts, on complete answers and on prefixes, and the strength by an ensemble."""
