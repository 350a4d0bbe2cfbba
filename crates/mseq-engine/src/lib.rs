//! Packs records into chunks and runs them through a model, carrying the recurrent state.
