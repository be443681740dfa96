//! Training: reverse Kullback–Leibler divergence, Adam, clipping, schedules.

mod adam;
mod clip;
mod schedule;
mod trainer;

pub use adam::Adam;
pub use clip::Clip;
pub use schedule::Schedule;
pub use trainer::{Estimator, TrainState, TrainStep, Trainer, model_parameters};
