//! A short variant of `sluice-bench peers` with the daemon beside it: `make test-veth`.

mod harness;

/// Every transfer has its own daemon and its own link; the scenario fails if one byte differs or one does not end.
#[test]
#[ignore = "needs root and a built daemon: make test-veth"]
fn linux_and_we_get_every_byte_through_bad_links_with_every_controller() {
    let args = ["peers", "--kib", "512", "--seed", "7"];
    let only = ["--only", "loss 3 %,reorder far,everything"];
    let Some(reports) = harness::reports("peers", &[&args[..], &only].concat()) else {
        return;
    };
    for (direction, contenders) in [6, 4].into_iter().enumerate() {
        let rows = reports[direction]["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), 3, "a row for every link");
        for row in rows {
            assert_eq!(row["contenders"].as_array().map(Vec::len), Some(contenders));
        }
    }
}
