"""The tables: rows, references, back references as indexes, and the log of changes that events read.

Values in rows are never changed in place, so they may be handed out without copying.
"""

from collections import OrderedDict, deque
from contextlib import suppress
from random import Random
from typing import Any, Callable, Deque, Dict, FrozenSet, Iterable, Iterator, List, Optional, Sequence, Tuple

from .datamodel import Class, Field, Model
from .errors import XapiError
from .table import DELETED_KEPT, WRITE_SECONDS, Deletion, Row, Table, Undo, column_text, no_garbage
from .values import NULL, read_map, read_stored, stored_text


class Database:
    """All tables of a pool."""

    def __init__(self, model: Model, random: Random) -> None:
        self.model = model
        self.random = random
        self.tables: Dict[str, Table] = {name: Table(cls) for name, cls in model.classes.items() if cls.in_database}
        for table in self.tables.values():
            table.derived = [(field.name, self._index(field)) for field in table.cls.wire_fields if field.derived]
        self.counted = [(name.lower(), table.rows) for name, table in self.tables.items()]
        self.generation = 1
        # Quoted, because OrderedDict takes no parameters before Python 3.9.
        self.changes: "OrderedDict[Tuple[str, str], int]" = OrderedDict()  # noqa: UP037
        self.deletions: Deque[Deletion] = deque(maxlen=DELETED_KEPT)
        self.listener: Callable[[], None] = lambda: None
        self.clock: Callable[[], float] = lambda: 0.0
        self._unwritten: List[Undo] = []
        self._lists: Dict[Tuple[str, ...], List[str]] = {}
        self._next_write = 0.0
        self._written_generation = self.generation

    # --- identity ---

    def new_uuid(self) -> str:
        digits = "%032x" % self.random.getrandbits(128)
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    def new_ref(self) -> str:
        return "OpaqueRef:" + self.new_uuid()

    def exists(self, cls: str, ref: str) -> bool:
        return ref in self.tables[cls].rows

    def by_uuid(self, cls: str, uuid: str) -> str:
        """The reference of the object with this uuid; UUID_INVALID if there is none."""
        ref = self.tables[cls].uuids.get(uuid)
        if ref is None:
            raise XapiError("UUID_INVALID", cls, uuid)
        return ref

    # --- reading ---

    def row(self, cls: str, ref: str) -> Row:
        """The stored fields of an object (read only); HANDLE_INVALID if there is none."""
        row = self.tables[cls].rows.get(ref)
        if row is None:
            raise XapiError("HANDLE_INVALID", cls, ref)
        return row

    def get(self, cls: str, ref: str, field: str) -> Any:
        """One field, stored or derived."""
        row = self.row(cls, ref)
        if field in row:
            return row[field]
        return self.derived(self.tables[cls].cls.fields[field], ref)

    def derived(self, field: Field, ref: str) -> List[str]:
        """The back side of a relation, the newest first, as xapi lists it until it restarts."""
        index = self._index(field)
        return list(index.get(ref, ()))[::-1] if index is not None else []

    def _index(self, field: Field) -> Optional[Dict[str, Dict[str, None]]]:
        """Where the back side of a relation is found."""
        cls, _, name = (field.relation or "").partition(".")
        table = self.tables.get(cls)
        return table.back.get(name) if table is not None else None

    def pointing_at(self, cls: str, field: str, ref: str) -> List[str]:
        """The objects of `cls` whose `field` is `ref`, the newest first."""
        return list(self.index(self.tables[cls], field).get(ref, ()))[::-1]

    def index(self, table: Table, field: str) -> Dict[str, Dict[str, None]]:
        """The rows by what a reference of theirs points at. That of a field without a back side is made when it is
        first asked for: most of them never are."""
        if field not in table.back:
            table.back[field] = {}
            for ref, row in table.rows.items():
                self._point(table, ref, field, row[field])
        return table.back[field]

    def records(self, cls: str, refs: Iterable[str]) -> Dict[str, Row]:
        """The records that a bulk read returns."""
        with no_garbage():
            return {ref: self.record(cls, ref) for ref in refs}

    def record(self, cls: str, ref: str) -> Row:
        """The fields that clients see, in wire order."""
        table = self.tables[cls]
        # The names come first, for their order. This is the inner loop of bulk reads.
        record = table.record.copy()
        record.update(self.row(cls, ref))
        for name in table.internal:
            del record[name]
        for name, index in table.derived:
            sources = index.get(ref) if index is not None else None
            record[name] = list(sources)[::-1] if sources else []
        return record

    def read_metadata(self, cls: str, text: str) -> Row:
        """The stored fields that `metadata_text` wrote, as they are stored; what cannot be read is left out."""
        fields = self.tables[cls].cls.columns
        try:
            columns = read_map(text)
        except ValueError:
            return {}
        stored = {}
        for column, value in columns.items():
            field = fields.get(column)
            if field is not None and not field.derived:
                with suppress(XapiError, ValueError):
                    stored[field.name] = field.convert(read_stored(value, field.type))
        return stored

    def metadata_text(self, cls: str, ref: str) -> str:
        """The whole row as one S-expression: what VM.snapshot_metadata holds."""
        table, row, pairs = self.tables[cls], self.row(cls, ref), []
        for column, field, default in table.columns():
            value = ref if field is None else self.derived(field, ref) if field.derived else row[field.name]
            # Most values are the defaults.
            is_default = field is not None and value is table.defaults.get(field.name)
            pairs.append(default if is_default else column_text(column, value))
        return "(%s)" % " ".join(pairs)

    # --- writing ---

    def create(self, cls: str, fields: Row, ref: Optional[str] = None) -> str:
        """Create an object, with defaults for fields that are left out, and return its reference."""
        table = self.tables[cls]
        row = table.defaults.copy()
        # An empty value shares the empty default: a pool has hundreds of thousands of them.
        row.update((name, value) for name, value in fields.items() if name in row and (value or row[name]))
        if not row["uuid"]:
            row["uuid"] = self.new_uuid()
        ref = ref or self.new_ref()
        self._remember(table, ref, None, None)
        self.enter(table, ref, row)
        self.listener()
        return ref

    def enter(self, table: Table, ref: str, row: Row) -> None:
        """Insert a whole row into its table and into the indexes."""
        self.generation += 1
        table.rows[ref] = row
        table.created[ref] = self.generation
        table.uuids[row["uuid"]] = ref
        if table.has_label:
            table.labels.setdefault(row["name_label"], {})[ref] = None
        self._log(table.cls, ref)
        for name in table.back:
            if row[name] != NULL:
                self._point(table, ref, name, row[name])

    def set(self, cls: str, ref: str, field: str, value: Any) -> None:
        """Change one stored field. Writing the value it already has is no change."""
        row = self.row(cls, ref)
        old = row[field]
        if old == value and type(old) is type(value):
            return
        table = self.tables[cls]
        self._remember(table, ref, field, old)
        self.generation += 1
        row[field] = value
        self._log(table.cls, ref)
        if field in table.back:
            self._unpoint(table, ref, field, old)
            self._point(table, ref, field, value)
        elif field == "name_label" and table.has_label:
            self._unlabel(table, ref, old)
            table.labels.setdefault(value, {})[ref] = None
        elif field == "uuid":
            table.uuids.pop(old, None)
            table.uuids[value] = ref
        self.listener()

    def set_list(self, cls: str, ref: str, field: str, value: Sequence[str]) -> None:
        """Change a field whose lists are few for many objects, which share them."""
        key = tuple(value)
        if key not in self._lists:
            self._lists[key] = list(key)
        self.set(cls, ref, field, self._lists[key])

    def update(self, cls: str, ref: str, **fields: Any) -> None:
        for name, value in fields.items():
            self.set(cls, ref, name, value)

    def delete(self, cls: str, ref: str) -> None:
        """Delete an object; references to it dangle, as in xapi."""
        row = self.row(cls, ref)
        table = self.tables[cls]
        self._remember(table, ref, None, row)
        self.generation += 1
        del table.rows[ref]
        table.uuids.pop(row["uuid"], None)
        if table.has_label:
            self._unlabel(table, ref, row["name_label"])
        created = table.created.pop(ref)
        if table.cls.events:
            self.changes.pop((cls, ref), None)
            self.deletions.append(Deletion(cls, ref, created, self.generation))
        for name in table.back:
            if row[name] != NULL:
                self._unpoint(table, ref, name, row[name])
        self.listener()

    def touch(self, cls: str, ref: str) -> int:
        """Make an event for an object without changing it; return the generation before it."""
        self.row(cls, ref)
        self.generation += 1
        self._log(self.tables[cls].cls, ref)
        self.listener()
        return self.generation - 1

    def add_to_map(self, cls: str, ref: str, field: str, key: Any, value: Any) -> None:
        """Add a key. An existing key raises MAP_DUPLICATE_KEY, and an empty key is refused."""
        old = self.row(cls, ref)[field]
        if key in old:
            raise XapiError("MAP_DUPLICATE_KEY", cls, field, ref, stored_text(key))
        if key == "":
            raise XapiError("INTERNAL_ERROR", "Db_cache_types.Empty_key_in_map")
        self.set(cls, ref, field, {key: value, **old})  # a new key comes first, as in xapi

    def remove_from_map(self, cls: str, ref: str, field: str, key: Any) -> None:
        """Remove a key; a missing key is no error."""
        old = self.row(cls, ref)[field]
        if key in old:
            self.set(cls, ref, field, {name: value for name, value in old.items() if name != key})

    # --- what is on disk ---

    def _remember(self, table: Table, ref: str, field: Optional[str], old: Any) -> None:
        if not table.cls.persistent:
            return
        now = self.clock()
        # The clock may have been set back.
        if not self._next_write - WRITE_SECONDS <= now < self._next_write:
            self.written()
        self._unwritten.append((table.cls.name, ref, field, old))

    def written(self) -> None:
        """Note that all changes so far are on disk."""
        self._unwritten.clear()
        self._next_write = self.clock() + WRITE_SECONDS
        self._written_generation = self.generation

    def lose_unwritten(self) -> int:
        """Undo all changes that are not on disk, as the death of xapi does. Return by how many generations the database
        on disk is older than this one, which counts on."""
        if self.clock() >= self._next_write:
            self.written()
        undos, self._unwritten = self._unwritten, []
        for cls, ref, field, old in reversed(undos):
            if field is not None:
                self.set(cls, ref, field, old)
            elif old is not None:
                self.create(cls, old, ref)
            else:
                self.delete(cls, ref)
        lost = self.generation - self._written_generation
        self.written()
        return lost

    def reload(self) -> None:
        """Read the database from disk again: objects that do not persist are gone, sets come in another order, and
        every object is new to clients that wait for events."""
        for table in self.tables.values():
            if not table.cls.persistent:
                for ref in list(table.rows):
                    self.delete(table.cls.name, ref)
        for table in self.tables.values():
            table.forget_indexes()
            for index in table.back.values():
                for target, sources in index.items():
                    if len(sources) > 1:
                        refs = list(sources)
                        self.random.shuffle(refs)
                        index[target] = dict.fromkeys(refs)
        self.deletions.clear()
        self.generation += 1
        for table in self.tables.values():
            table.created = dict.fromkeys(table.rows, self.generation)
            for ref in table.rows:
                self._log(table.cls, ref)

    # --- events ---

    def changed_since(
        self, generation: int, among: Optional[FrozenSet[Tuple[str, str]]] = None
    ) -> Iterator[Tuple[str, str, int]]:
        """Living objects changed after `generation`, of all or of these, the latest first: class, reference,
        generation."""
        if among is not None:
            found = [(self.changes.get(key, 0), *key) for key in among]
            found = sorted((one for one in found if one[0] > generation), reverse=True)
            # In which order objects have changed that changed together, only the log knows.
            if len({changed for changed, _, _ in found}) == len(found):
                for changed, cls, ref in found:
                    yield cls, ref, changed
                return
        for (cls, ref), changed in reversed(self.changes.items()):
            if changed <= generation:
                return
            if among is None or (cls, ref) in among:
                yield cls, ref, changed

    def deleted_since(self, generation: int) -> Iterator[Deletion]:
        """Objects that existed at `generation` and have been deleted since, the latest first."""
        for deletion in reversed(self.deletions):
            if deletion.deleted <= generation:
                return
            if deletion.created <= generation:
                yield deletion

    # --- upkeep ---

    def _log(self, cls: Class, ref: str) -> None:
        if cls.events:
            key = (cls.name, ref)
            if key in self.changes:
                self.changes.move_to_end(key)
            self.changes[key] = self.generation

    def _point(self, table: Table, ref: str, field: str, target: str) -> None:
        if target and target != NULL:
            table.back[field].setdefault(target, {})[ref] = None
            self._touch_target(table, field, target)

    def _unpoint(self, table: Table, ref: str, field: str, target: str) -> None:
        sources = table.back[field].get(target)
        if sources is not None:
            sources.pop(ref, None)
            if not sources:
                del table.back[field][target]
            self._touch_target(table, field, target)

    def _touch_target(self, table: Table, field: str, target: str) -> None:
        """Make an event for the object on the other side of a relation."""
        if table.cls.fields[field].relation is None:
            return
        other = self.tables.get(table.cls.fields[field].type[4:])
        if other is not None and target in other.rows:
            self._log(other.cls, target)

    def _unlabel(self, table: Table, ref: str, label: str) -> None:
        refs = table.labels.get(label)
        if refs is not None:
            refs.pop(ref, None)
            if not refs:
                del table.labels[label]

    # --- state ---

    def dump_table(self, table: Table) -> Iterator[Tuple[str, Row]]:
        """The rows of one class, one at a time, as JSON values; fields at their defaults are left out.

        Unlike xapi's own database this keeps the fields that are not persistent too: no hypervisor would report
        them again.
        """
        defaults = table.defaults
        dates = [field.name for field in table.stored if field.type == "datetime"]
        for ref, row in table.rows.items():
            dumped = {name: value for name, value in row.items() if value != defaults[name]}
            for name in dates:
                if name in dumped:
                    dumped[name] = stored_text(dumped[name])
            yield ref, dumped

    def restore(self, tables: Dict[str, Dict[str, Row]]) -> None:
        """Add the rows that `dump_table` gave, by class. Removes them from `tables`, so that memory holds them once."""
        same: Dict[str, str] = {}
        for cls, rows in tables.items():
            table = self.tables[cls]
            convert = {field.name: field.convert for field in table.stored}
            for ref in list(rows):
                row = table.defaults.copy()
                for name, value in rows.pop(ref).items():
                    value = convert[name](value)
                    # A file repeats its references: sharing equal texts saves a tenth of the memory.
                    row[name] = same.setdefault(value, value) if type(value) is str else value
                row["uuid"] = row["uuid"] or self.new_uuid()
                self.enter(table, same.setdefault(ref, ref), row)
        self.listener()
