//! Several sequences at once through one model, a step at a time: who prefills, who decodes, who waits.
