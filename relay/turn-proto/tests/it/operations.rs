//! Random operations against the model; proptest prints and keeps what fails.

use proptest::prelude::*;

use crate::model;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_the_model_agrees(kind in any::<u8>(), choices in prop::collection::vec(any::<u8>(), 0..1500)) {
        let mut bytes = vec![kind];
        bytes.extend(choices);
        model::run(&bytes);
    }
}
