//! Operations whose value is computed beforehand and handed in: only their backward pass is their own.

/// Name and forward pass of an operation on (input, parameters, value) that returns the value.
macro_rules! value_is_the_third_argument {
    ($name:literal) => {
        fn name(&self) -> &'static str {
            $name
        }

        fn cpu_fwd(
            &self,
            _: &candle_core::CpuStorage,
            _: &candle_core::Layout,
            _: &candle_core::CpuStorage,
            _: &candle_core::Layout,
            value: &candle_core::CpuStorage,
            layout: &candle_core::Layout,
        ) -> candle_core::Result<(candle_core::CpuStorage, candle_core::Shape)> {
            use candle_core::backend::BackendStorage;
            Ok((value.try_clone(layout)?, layout.shape().clone()))
        }

        fn cuda_fwd(
            &self,
            _: &candle_core::CudaStorage,
            _: &candle_core::Layout,
            _: &candle_core::CudaStorage,
            _: &candle_core::Layout,
            value: &candle_core::CudaStorage,
            layout: &candle_core::Layout,
        ) -> candle_core::Result<(candle_core::CudaStorage, candle_core::Shape)> {
            use candle_core::backend::BackendStorage;
            Ok((value.try_clone(layout)?, layout.shape().clone()))
        }
    };
}

pub(crate) use value_is_the_third_argument;
