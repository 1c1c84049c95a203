//! Problem generators, datasets, answers and statistics.
pub mod answer;
pub mod data;
pub mod generate;
pub mod grade;
pub mod json;
mod math;
pub mod stats;
pub mod task;
