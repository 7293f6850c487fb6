// An application of the JDBC driver: prepared lookups by many threads, batches, fetch sizes, generated keys,
// metadata, transactions, errors. Prints `ok` at the end; any surprise ends it with a stack trace.
//
//     java -cp postgresql.jar App.java PORT DATABASE [distribute]
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;

public class App {
    static String url;

    static Connection connect(String more) throws SQLException {
        return DriverManager.getConnection(url + more, "app", "");
    }

    static void same(Object wanted, Object found) {
        if (!Objects.equals(wanted, found))
            throw new AssertionError("wanted " + wanted + ", found " + found);
    }

    static String stateOf(Callable<?> work) throws Exception {
        try {
            work.call();
        } catch (SQLException err) {
            return err.getSQLState();
        }
        return "no error";
    }

    static List<String> strings(PreparedStatement statement) throws SQLException {
        List<String> found = new ArrayList<>();
        try (ResultSet rows = statement.executeQuery()) {
            while (rows.next())
                found.add(rows.getString(1));
        }
        return found;
    }

    static void load(boolean distribute) throws SQLException {
        try (Connection conn = connect(""); Statement s = conn.createStatement()) {
            s.execute("DROP TABLE IF EXISTS java_people");
            s.execute("CREATE TABLE java_people (id bigint PRIMARY KEY, seq int GENERATED ALWAYS AS IDENTITY,"
                    + " name text, money numeric(10,2), born date, seen timestamptz, tags text[], u uuid)");
            if (distribute)
                s.execute("SELECT shoal.distribute_table('java_people', 'id')");
            try (PreparedStatement insert = conn.prepareStatement(
                    "INSERT INTO java_people (id, name, money, born, seen, tags, u) VALUES (?, ?, ?, ?, ?, ?, ?)")) {
                for (int i = 1; i <= 200; i++) {
                    insert.setLong(1, i);
                    insert.setString(2, "name " + i);
                    insert.setBigDecimal(3, new java.math.BigDecimal(i + ".50"));
                    insert.setObject(4, java.time.LocalDate.of(2000, 1, 1).plusDays(i));
                    insert.setObject(5, java.time.OffsetDateTime.of(2020, 1, 1, 0, 0, i % 60, 0, java.time.ZoneOffset.UTC));
                    insert.setArray(6, conn.createArrayOf("text", new String[] {"a", "b" + i}));
                    insert.setObject(7, new UUID(0, i));
                    insert.addBatch();
                }
                same(200, insert.executeBatch().length); // pipelined by the driver
            }
        }
    }

    // What a web server's threads do: after five uses the driver prepares on the server, and asks for binary.
    static void lookups() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(12);
        List<Future<?>> all = new ArrayList<>();
        for (int t = 0; t < 12; t++) {
            int first = t;
            all.add(threads.submit(() -> {
                try (Connection conn = connect("");
                     PreparedStatement one = conn.prepareStatement("SELECT name, money, born, u, tags FROM java_people WHERE id = ?")) {
                    for (int n = 0; n < 60; n++) {
                        long id = (first * 37 + n * 11) % 210 + 1;
                        one.setLong(1, id);
                        try (ResultSet row = one.executeQuery()) {
                            same(id <= 200, row.next());
                            if (id > 200)
                                continue;
                            same("name " + id, row.getString(1));
                            same(id + ".50", row.getBigDecimal(2).toString());
                            same(java.time.LocalDate.of(2000, 1, 1).plusDays(id), row.getObject(3, java.time.LocalDate.class));
                            same(new UUID(0, id), row.getObject(4));
                            same("b" + id, ((String[]) row.getArray(5).getArray())[1]);
                        }
                    }
                }
                return null;
            }));
        }
        for (Future<?> each : all)
            each.get(60, TimeUnit.SECONDS);
        threads.shutdown();
    }

    static void transactions() throws Exception {
        try (Connection conn = connect("")) {
            conn.setAutoCommit(false);
            try (PreparedStatement add = conn.prepareStatement("UPDATE java_people SET money = money + ? WHERE id = ?")) {
                for (int id = 1; id <= 20; id++) {
                    add.setInt(1, 1);
                    add.setLong(2, id);
                    add.addBatch();
                }
                for (int count : add.executeBatch())
                    same(1, count);
            }
            conn.rollback();
            Savepoint before = conn.setSavepoint("before");
            same("42P01", stateOf(() -> conn.createStatement().execute("SELECT * FROM no_such_table")));
            same("25P02", stateOf(() -> conn.createStatement().executeQuery("SELECT 1")));
            conn.rollback(before);
            try (PreparedStatement one = conn.prepareStatement("SELECT money FROM java_people WHERE id = ?")) {
                one.setLong(1, 3);
                same(List.of("3.50"), strings(one));
            }
            conn.commit();
            conn.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
            conn.setReadOnly(true);
            same("25006", stateOf(() -> conn.createStatement().executeUpdate("UPDATE java_people SET name = 'x' WHERE id = 1")));
            conn.rollback();
        }
        same("23505", stateOf(() -> {
            try (Connection conn = connect(""); Statement s = conn.createStatement()) {
                return s.executeUpdate("INSERT INTO java_people (id, name) VALUES (1, 'again')");
            }
        }));
    }

    // A fetch size: a portal that stays open, 17 rows at a time.
    static void fetchSize() throws SQLException {
        try (Connection conn = connect("")) {
            conn.setAutoCommit(false);
            try (PreparedStatement all = conn.prepareStatement("SELECT id FROM java_people WHERE id = 7 OR id = 7 ORDER BY id")) {
                all.setFetchSize(17);
                same(List.of("7"), strings(all));
            }
            conn.commit();
        }
    }

    static void keysAndMetadata() throws SQLException {
        try (Connection conn = connect("")) {
            try (PreparedStatement insert = conn.prepareStatement("INSERT INTO java_people (id, name) VALUES (?, ?)",
                    new String[] {"id", "seq"})) {
                insert.setLong(1, 1000);
                insert.setString(2, "late");
                same(1, insert.executeUpdate());
                try (ResultSet keys = insert.getGeneratedKeys()) {
                    same(true, keys.next());
                    same(1000L, keys.getLong(1));
                }
            }
            List<String> columns = new ArrayList<>();
            try (ResultSet rows = conn.getMetaData().getColumns(null, "public", "java_people", null)) {
                while (rows.next())
                    columns.add(rows.getString("COLUMN_NAME") + " " + rows.getString("TYPE_NAME"));
            }
            same("[id int8, seq int4, name text, money numeric, born date, seen timestamptz, tags _text, u uuid]", columns.toString());
            try (ResultSet key = conn.getMetaData().getPrimaryKeys(null, "public", "java_people")) {
                same(true, key.next());
                same("id", key.getString("COLUMN_NAME"));
            }
        }
    }

    // As batch imports write: the driver folds rows into INSERTs of many VALUES.
    static void rewrittenBatches() throws SQLException {
        try (Connection conn = connect("&reWriteBatchedInserts=true");
             PreparedStatement insert = conn.prepareStatement("INSERT INTO java_people (id, name) VALUES (?, ?)")) {
            for (int i = 2000; i < 2100; i++) {
                insert.setLong(1, i);
                insert.setString(2, "bulk");
                insert.addBatch();
            }
            same(100, insert.executeBatch().length);
            try (PreparedStatement one = conn.prepareStatement("SELECT name FROM java_people WHERE id = ?")) {
                one.setLong(1, 2099);
                same(List.of("bulk"), strings(one));
            }
        }
    }

    static void timeouts() throws Exception {
        try (Connection conn = connect(""); Statement s = conn.createStatement()) {
            s.setQueryTimeout(1); // a cancel request from another connection
            same("57014", stateOf(() -> s.executeQuery("SELECT pg_sleep(30)")));
            s.setQueryTimeout(0);
            try (ResultSet row = s.executeQuery("SELECT 5")) {
                same(true, row.next());
            }
        }
    }

    public static void main(String[] args) throws Exception {
        url = "jdbc:postgresql://127.0.0.1:" + args[0] + "/" + args[1] + "?sslmode=disable";
        load(args.length > 2);
        lookups();
        transactions();
        fetchSize();
        keysAndMetadata();
        rewrittenBatches();
        timeouts();
        System.out.println("ok");
    }
}
