//! Look-ups and downloads, with a stand-in for the hub on this machine.

mod answers;
mod choices;
mod stand_in;
mod transfers;
