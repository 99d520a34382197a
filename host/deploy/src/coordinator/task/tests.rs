//! A canary's time against the wall clock.

use super::left_ms;

#[test]
fn a_canary_lasts_until_its_time_is_over() {
    assert_eq!(left_ms(5_000, 2_000, 5_000), 2_000);
    assert_eq!(left_ms(5_000, 2_000, 6_500), 500);
    assert_eq!(left_ms(5_000, 2_000, 7_000), 0);
    // Nobody looked for years.
    assert_eq!(left_ms(5_000, 2_000, u64::MAX), 0);
}

#[test]
fn a_clock_that_was_set_back_does_not_make_a_canary_last_longer() {
    assert_eq!(left_ms(5_000, 2_000, 4_999), 2_000);
    assert_eq!(left_ms(5_000, 2_000, 0), 2_000);
    assert_eq!(left_ms(u64::MAX, 2_000, 0), 2_000);
    assert_eq!(left_ms(u64::MAX, u64::MAX, 0), u64::MAX);
}
