#include <poll.h>

//
// A worker may be lent: a loop of the application's takes turns at it then, in place of its own thread. That one stands by,
// and takes turns itself while there is work and nobody else takes any.
//

//
// For how long a lent worker may have work and nobody take a turn at it, in milliseconds; and how seldom at most its own
// thread looks whether that is so, which it does the less often the longer nothing happens.
//
#define CXPLAT_LENT_WORKER_PATIENCE 10
#define CXPLAT_LENT_WORKER_LONGEST_PATIENCE 150

//
// How many rounds a turn has at most, so that others who share the loop get theirs.
//
#define CXPLAT_LENT_WORKER_ROUNDS 8

static
BOOLEAN
CxPlatLentWorkerWaitForEvents(
    _In_ CXPLAT_WORKER* Worker,
    _In_ uint32_t WaitTime // milliseconds
    )
{
    struct pollfd Events = { Worker->EventQ, POLLIN, 0 };
    return poll(&Events, 1, (int)WaitTime) > 0;
}

static
BOOLEAN
CxPlatLentWorkerHasWork(
    _In_ CXPLAT_WORKER* Worker
    )
{
    return
        Worker->Running ||
        Worker->NextTurnUs <= CxPlatTimeUs64() ||
        CxPlatLentWorkerWaitForEvents(Worker, 0);
}

//
// Returns after how many milliseconds the next turn is due, if no event and nobody who wakes the worker asks for one before:
// UINT32_MAX if none is.
//
static
uint32_t
CxPlatLentWorkerTakeTurn(
    _In_ CXPLAT_WORKER* Worker,
    _In_ BOOLEAN HasEvents
    )
{
    if (!Worker->Lent || InterlockedFetchAndSetBoolean(&Worker->InTurn)) {
        //
        // Its own thread has it back, or somebody is at it, who is told.
        //
        InterlockedFetchAndSetBoolean(&Worker->Wanted);
        if (HasEvents) {
            InterlockedFetchAndSetBoolean(&Worker->HasEvents);
        }
        return 1;
    }

    //
    // A loop with much else to do may look for events less often than others wake the worker.
    //
    const uint64_t Now = CxPlatTimeUs64();
    if (InterlockedFetchAndClearBoolean(&Worker->HasEvents) ||
        Now - Worker->EventsUs >= MS_TO_US(CXPLAT_LENT_WORKER_PATIENCE)) {
        HasEvents = TRUE;
    }
    if (HasEvents) {
        Worker->EventsUs = Now;
    }

    Worker->State.ThreadID = CxPlatCurThreadID();
    InterlockedFetchAndSetBoolean(&Worker->Running);

    uint32_t WaitTime = 0;
    for (uint32_t Round = 0; Round < CXPLAT_LENT_WORKER_ROUNDS && WaitTime == 0; ++Round) {
        if (HasEvents) {
            Worker->State.WaitTime = 0;
            Worker->State.NoWorkCount = 1;
            CxPlatProcessEvents(Worker);
            HasEvents = Worker->State.NoWorkCount == 0;
        }
        WaitTime = CxPlatWorkerPoolWorkerPoll((QUIC_EXECUTION*)Worker);
        if (HasEvents) {
            WaitTime = 0;
        }
    }

    if (Worker->State.TimeNow - Worker->State.LastPoolProcessTime > DYNAMIC_POOL_PROCESSING_PERIOD) {
        CxPlatProcessDynamicPoolAllocators(Worker);
        Worker->State.LastPoolProcessTime = Worker->State.TimeNow;
    }

    if (HasEvents) {
        InterlockedFetchAndSetBoolean(&Worker->HasEvents);
    }
    Worker->NextTurnUs =
        WaitTime == UINT32_MAX ? UINT64_MAX : Worker->State.TimeNow + MS_TO_US((uint64_t)WaitTime);
    Worker->Turns++;
    Worker->State.ThreadID = UINT32_MAX;
    InterlockedFetchAndClearBoolean(&Worker->InTurn);
    return WaitTime;
}

//
// What the own thread of a worker that is lent does until it has the worker back.
//
static
void
CxPlatLentWorkerStandBy(
    _In_ CXPLAT_WORKER* Worker
    )
{
    uint32_t Turns = Worker->Turns;
    uint32_t Patience = CXPLAT_LENT_WORKER_PATIENCE;
    Worker->PauseStart = 0;
    Worker->NextTurnUs = 0;
    Worker->State.ThreadID = UINT32_MAX;
    InterlockedFetchAndClearBoolean(&Worker->InTurn);
    //
    // Whoever it is lent to begins with what was left to do.
    //
    CxPlatEventQEnqueue(&Worker->EventQ, &Worker->WakeSqe);

    while (Worker->Lent && !Worker->StoppedThread) {
        CxPlatEventWaitWithTimeout(Worker->GivenBack, Patience);
        if (Worker->InTurn || Turns != Worker->Turns) {
            Turns = Worker->Turns;
            Patience = CXPLAT_LENT_WORKER_PATIENCE;
            continue;
        }
        if (!CxPlatLentWorkerHasWork(Worker)) {
            Patience = CXPLAT_MIN(2 * Patience, CXPLAT_LENT_WORKER_LONGEST_PATIENCE);
            continue;
        }
        Worker->Wanted = FALSE;
        do {
            const uint32_t WaitTime = CxPlatLentWorkerTakeTurn(Worker, TRUE);
            Turns = Worker->Turns;
            CxPlatLentWorkerWaitForEvents(Worker, CXPLAT_MIN(WaitTime, CXPLAT_LENT_WORKER_PATIENCE));
        } while (
            Worker->Lent && !Worker->Wanted && !Worker->InTurn && Turns == Worker->Turns &&
            CxPlatLentWorkerHasWork(Worker));
        Patience = CXPLAT_LENT_WORKER_PATIENCE;
        //
        // Whoever else takes turns does not know when the next is due.
        //
        Worker->Wake(Worker->Index);
    }

    while (InterlockedFetchAndSetBoolean(&Worker->InTurn)) {
        //
        // A turn is under way that began before.
        //
        CxPlatEventWaitWithTimeout(Worker->GivenBack, 1);
    }
    Worker->State.ThreadID = CxPlatCurThreadID();
    Worker->Running = TRUE;
}

static
CXPLAT_WORKER*
CxPlatWorkerPoolGetWorker(
    _In_ CXPLAT_WORKER_POOL* WorkerPool,
    _In_ uint32_t Index
    )
{
    CXPLAT_FRE_ASSERT(Index < WorkerPool->WorkerCount);
    return &WorkerPool->Workers[Index];
}

static
int
CxPlatWorkerPoolGetDescriptor(
    _In_ CXPLAT_WORKER_POOL* WorkerPool,
    _In_ uint32_t Index
    )
{
    return CxPlatWorkerPoolGetWorker(WorkerPool, Index)->EventQ;
}

static
void
CxPlatWorkerPoolSetLent(
    _In_ CXPLAT_WORKER_POOL* WorkerPool,
    _In_ uint32_t Index,
    _In_opt_ CXPLAT_WORKER_WAKE Wake
    )
{
    CXPLAT_WORKER* Worker = CxPlatWorkerPoolGetWorker(WorkerPool, Index);
    if (Wake != NULL) {
        Worker->Index = Index;
        Worker->Wake = Wake;
        InterlockedFetchAndSetBoolean(&Worker->Lent);
    } else {
        InterlockedFetchAndClearBoolean(&Worker->Lent);
        CxPlatEventSet(Worker->GivenBack);
    }
    //
    // Its own thread may wait for events, whichever it is.
    //
    CxPlatEventQEnqueue(&Worker->EventQ, &Worker->WakeSqe);
}

static
uint32_t
CxPlatWorkerPoolTakeTurn(
    _In_ CXPLAT_WORKER_POOL* WorkerPool,
    _In_ uint32_t Index,
    _In_ BOOLEAN HasEvents
    )
{
    return CxPlatLentWorkerTakeTurn(CxPlatWorkerPoolGetWorker(WorkerPool, Index), HasEvents);
}

void
CxPlatWorkerPoolGetLending(
    _In_ CXPLAT_WORKER_POOL* WorkerPool,
    _Out_ CXPLAT_WORKER_LENDING* Lending
    )
{
    Lending->WorkerPool = WorkerPool;
    Lending->Count = WorkerPool->WorkerCount;
    Lending->GetDescriptor = CxPlatWorkerPoolGetDescriptor;
    Lending->SetLent = CxPlatWorkerPoolSetLent;
    Lending->TakeTurn = CxPlatWorkerPoolTakeTurn;
}

