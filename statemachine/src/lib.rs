//! statemachine.
