//! The notation 0.0734(1): a table of how numbers look, and the way back.

use latflow_observable::{Error, ValueError};
use proptest::prelude::*;

#[test]
fn numbers_look_as_a_physicist_writes_them() {
    let table = [
        // value, error, text
        (0.07338, 0.0001, "0.07338(10)"),
        (0.073384, 0.00004, "0.07338(4)"),
        (4.98, 0.11, "4.98(11)"),
        (8.73, 0.30, "8.73(30)"),
        (3.6213, 0.0712, "3.62(7)"),
        (0.82743, 0.0354, "0.827(35)"),
        (0.82743, 0.0355, "0.83(4)"),
        (0.82743, 0.0949, "0.83(9)"),
        (0.82743, 0.0096, "0.827(10)"),
        (-0.0, 0.5, "-0.0(5)"),
        (-1.25, 0.125, "-1.25(12)"),
        (123.44, 1.234, "123.4(1.2)"),
        (123.44, 9.6, "123(10)"),
        (123.44, 4.0, "123(4)"),
        (12.0, 30.0, "12(30)"),
        (1234.0, 360.0, "1200(400)"),
        (-1234.0, 36.0, "-1230(40)"),
        (0.0, 40.0, "0(40)"),
        (0.0012, 3.3, "0.0(3.3)"),
        (5e9, 2e9, "5000000000(2000000000)"),
        (5.123e10, 2e8, "5.123(20)e10"),
        (1.5e300, 1e295, "1.500000(10)e300"),
        (1.234e-5, 1.2e-7, "0.00001234(12)"),
        (1.234e-6, 1.2e-8, "1.234(12)e-6"),
        (0.0, 1e-7, "0.0(1.0)e-7"),
        (2e-320, 5e-321, "2.0(5)e-320"),
        (0.5, 0.0, "0.5(0)"),
        (12.0, 0.0, "12(0)"),
        (1.5, f64::NAN, "1.5(nan)"),
        (f64::NAN, 0.1, "nan(0.1)"),
        (1.5, f64::INFINITY, "1.5(inf)"),
        (f64::NEG_INFINITY, 0.25, "-inf(0.25)"),
    ];
    for (value, error, text) in table {
        assert_eq!(ValueError::new(value, error).to_string(), text, "value {value}, error {error}");
    }
}

#[test]
fn precision_fixes_the_digits_of_the_error() {
    let x = ValueError::new(0.0733849, 0.000123);
    assert_eq!(format!("{x:.1}"), "0.0734(1)");
    assert_eq!(format!("{x:.2}"), "0.07338(12)");
    assert_eq!(format!("{x:.3}"), "0.073385(123)");
    assert_eq!(format!("{:.1}", ValueError::new(1.0, 0.096)), "1.0(1)");
    assert_eq!(format!("{x:>14}|{x:<14}|{x:^14}"), "   0.07338(12)|0.07338(12)   | 0.07338(12)  ");
}

#[test]
fn published_numbers_are_read() {
    let table = [
        ("0.0734(1)", 0.0734, 1e-4),
        ("4.98(11)", 4.98, 0.11),
        ("123.4(1.2)", 123.4, 1.2),
        ("12(30)", 12.0, 30.0),
        ("-0.5(0)", -0.5, 0.0),
        ("1.234(5)e12", 1.234e12, 5e9),
        ("2(1)E-3", 2e-3, 1e-3),
        (" 1.5(inf) ", 1.5, f64::INFINITY),
        (".5(2)", 0.5, 0.2),
    ];
    for (text, value, error) in table {
        assert_eq!(text.parse::<ValueError>().unwrap(), ValueError::new(value, error), "{text}");
    }
    let nan: ValueError = "nan(nan)".parse().unwrap();
    assert!(nan.value.is_nan() && nan.error.is_nan());
}

#[test]
fn nonsense_is_refused() {
    for text in [
        "",
        "0.0734",
        "0.0734(1",
        "0.0734 1)",
        "(1)",
        "x(1)",
        "1..2(1)",
        "1.2()",
        "1.2(-1)",
        "1.2(1)x",
        "1(1)e",
        ".(1)",
        "1 .2(1)",
    ] {
        let refused = text.parse::<ValueError>();
        assert!(matches!(refused, Err(Error::Notation { .. })), "{text:?} was read as {refused:?}");
    }
}

#[test]
fn z_scores() {
    let (a, b) = (ValueError::new(1.0, 3.0), ValueError::new(11.0, 4.0));
    assert_eq!(a.z_score(b), -2.0);
    assert_eq!(b.z_score(a), 2.0);
    let exact = ValueError::new(1.0, 0.0);
    assert_eq!(exact.z_score(exact), 0.0);
    assert_eq!(exact.z_score(ValueError::new(2.0, 0.0)), f64::NEG_INFINITY);
    assert!(exact.z_score(ValueError::new(f64::NAN, 1.0)).is_nan());
}

proptest! {
    /// What is written is within half a unit of the last digit, its error within the 15 % of the rounding rule.
    #[test]
    fn what_is_written_can_be_read(mantissa in -9.99..9.99f64, exponent in -40..40i32, error in 1.0..9.99f64, down in -4..12i32) {
        let x = ValueError::new(mantissa * 10f64.powi(exponent), error * 10f64.powi(exponent - down));
        let text = x.to_string();
        let back: ValueError = text.parse().unwrap();
        prop_assert!((back.error / x.error - 1.0).abs() < 0.15, "{x:?} {text}");
        prop_assert!((back.value - x.value).abs() <= 0.16 * x.error + 1e-14 * x.value.abs(), "{x:?} {text}");
        prop_assert!(text.len() <= 32, "{}", text);
    }
}
