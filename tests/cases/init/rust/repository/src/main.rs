fn main() {
    let addr = "0.0.0.0:7070";
    let route = "/status";
}

#[test]
fn one() {}
