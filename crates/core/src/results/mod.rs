//! What was measured: recorders, exact merging, the report model.
